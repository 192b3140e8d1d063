"""Plugins in files that are not installed, found by the path of the file."""

from __future__ import annotations

import json
import sys

import numpy as np
import pytest
from helpers import OWN_CELL

import gradsim
from gradsim.contracts import registry
from gradsim.errors import InputError, PluginError, UnknownNameError

TWO = f"""{OWN_CELL}

class Other(Mine):
    name = "other"
"""


def test_the_cell_of_a_file_is_found_and_said_again(tmp_path):
    file = tmp_path / "one_cell.py"
    file.write_text(OWN_CELL)
    cell = registry.build("cells", str(file), {"slope": 0.5, "hidden_size": 3})
    assert repr(cell) == "Mine(input_size=1, hidden_size=3, slope=0.5)"
    ds = gradsim.simulate(cell, np.ones((4, 1, 1)), record=["product_norm"])
    table = json.loads(ds.attrs["provenance"])["cell"]
    assert table["name"] == f"{file}:Mine"
    name = table.pop("name")
    assert repr(registry.build("cells", name, table)) == repr(cell)


def test_one_of_several_is_chosen_by_its_class(tmp_path):
    file = tmp_path / "two_cells.py"
    file.write_text(TWO)
    assert registry.find("cells", f"{file}:Other").name == "other"
    with pytest.raises(InputError, match=r"two_cells.py defines Mine, Other; say which, such as .*py:Mine"):
        registry.find("cells", str(file))
    with pytest.raises(UnknownNameError, match=r"'Othr'; did you mean 'Other'"):
        registry.find("cells", f"{file}:Othr")
    with pytest.raises(InputError, match=r"two_cells.py defines no Mitigation"):
        registry.find("mitigations", str(file))


def test_a_file_that_is_not_there_or_broken_is_named(tmp_path):
    with pytest.raises(InputError, match=r"there is no file .*nowhere.py"):
        registry.find("cells", str(tmp_path / "nowhere.py"))
    (tmp_path / "broken_cell.py").write_text("\n1 / 0\n")
    with pytest.raises(PluginError, match=r"cannot be imported: ZeroDivisionError: .*, line 2\)"):
        registry.find("cells", str(tmp_path / "broken_cell.py"))


def cell_file(folder, name, slope, before=""):
    folder.mkdir(exist_ok=True)
    file = folder / name
    file.write_text(f"from __future__ import annotations\n{before}{OWN_CELL.replace('1.0', slope)}")
    return file


def test_files_of_one_name_are_two_modules(tmp_path):
    text = "from typing import Annotated\n"
    one = cell_file(tmp_path / "one", "same_cell.py", "0.5", text)
    two = cell_file(tmp_path / "two", "same_cell.py", "0.25")
    first, second = (registry.build("cells", str(file)) for file in (one, two))
    assert (first.slope, second.slope) == (0.5, 0.25)
    assert "Annotated" in vars(sys.modules[type(first).__module__])
    assert registry.build("cells", str(one), {"slope": 2.0}).slope == 2.0


@pytest.mark.parametrize("name", ["json.py", "numpy.py", "gradsim.py"])
def test_a_file_called_as_another_module_does_not_replace_it(tmp_path, name):
    stem = name.removesuffix(".py")
    module = sys.modules[stem]
    cell = registry.build("cells", str(cell_file(tmp_path, name, "0.5")))
    assert cell.slope == 0.5
    assert sys.modules[stem] is module
    assert sys.path[0] != str(tmp_path)


def test_a_file_is_not_given_the_module_beside_another_one(tmp_path):
    for slope in ("0.5", "0.25"):
        cell_file(tmp_path / slope, f"cell_{slope[2:]}.py", "SLOPE", "from beside_cell import SLOPE\n")
        (tmp_path / slope / "beside_cell.py").write_text(f"SLOPE = {slope}")
    assert registry.build("cells", str(tmp_path / "0.5" / "cell_5.py")).slope == 0.5
    with pytest.raises(
        PluginError, match=r"cell_25.py imports .*, but beside_cell is .*; rename one of them"
    ):
        registry.find("cells", str(tmp_path / "0.25" / "cell_25.py"))


def test_what_a_file_prints_is_kept_from_the_output(tmp_path, capsys):
    registry.find("cells", str(cell_file(tmp_path, "loud_cell.py", "1.0", "print('hello')\n")))
    found = capsys.readouterr()
    assert (found.out, found.err) == ("", "hello\n")
