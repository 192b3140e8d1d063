"""Plugins in files that are not installed, found by the path of the file."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gradsim
from gradsim.contracts import registry
from gradsim.errors import InputError, PluginError, UnknownNameError

ONE = """
from dataclasses import dataclass
from gradsim import Dense

@dataclass(frozen=True, eq=False)
class Mine(Dense):
    name = "mine"
    slope: float = 1.0

    def unit(self, sums, old, xp):
        return xp.tanh(self.slope * sums[0])
"""
TWO = f"""{ONE}

class Other(Mine):
    name = "other"
"""


def test_the_cell_of_a_file_is_found_and_said_again(tmp_path):
    file = tmp_path / "one_cell.py"
    file.write_text(ONE)
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
