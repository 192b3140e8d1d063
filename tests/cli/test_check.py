"""`gradsim check`: what passes, what fails, what cannot be found."""

from __future__ import annotations

from pathlib import Path

import pytest

import gradsim_tasks

CELL = '''
from dataclasses import dataclass

import numpy as np

from gradsim import Cell


@dataclass(frozen=True, eq=False)
class Mine(Cell):
    """h_t = tanh(U h_{t-1} + x_t)."""

    name = "mine_alone"

    input_size: int = 3

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"U": rng.standard_normal((3, 3))}

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["U"].T + inputs)
'''

WRONG = """
    def step_jacobian(self, params, state, inputs):
        slope = 1 - self.step(params, state, inputs, np) ** 2
        return 1.001 * (slope[..., None] * params["U"])[..., None, :, :]
"""


def test_an_installed_plugin_is_checked_by_name(gradsim_cli):
    result = gradsim_cli("check", "elman")
    assert result.exit_code == 0
    assert result.output.startswith("Elman(")
    assert "  ok        jacobian_product" in result.output


@pytest.mark.parametrize("target", ["my_file.py", "my_module"])
def test_a_cell_with_only_a_step_is_checked_from_its_file_or_module(gradsim_cli, target):
    Path(target).with_suffix(".py").write_text(CELL)
    result = gradsim_cli("check", target)
    assert result.exit_code == 0, result.output
    assert "Mine(input_size=3)" in result.output
    assert "FAILED" not in result.output


def test_a_jacobian_wrong_by_a_thousandth_fails(gradsim_cli):
    Path("wrong.py").write_text(CELL + WRONG)
    result = gradsim_cli("check", "wrong.py")
    assert result.exit_code == 1
    assert "  FAILED    jacobian: " in result.output
    assert "  not made  jacobian_product: " in result.output
    assert "Failed: Mine" in result.output


def test_a_plugin_that_cannot_be_made_with_its_defaults_fails(gradsim_cli):
    Path("needy.py").write_text(CELL.replace("input_size: int = 3", "input_size: int"))
    result = gradsim_cli("check", "needy.py")
    assert result.exit_code == 1
    assert "made with its defaults: " in result.output


def test_what_a_module_only_imports_is_not_checked(gradsim_cli):
    Path("empty.py").write_text("from gradsim_cells import Elman\n")
    result = gradsim_cli("check", "empty.py")
    assert result.exit_code == 2
    assert "empty.py defines no plugin" in result.output


def test_the_modules_of_a_package_are_checked_too(gradsim_cli):
    result = gradsim_cli("check", "gradsim_tasks")
    assert result.exit_code == 0
    checked = {line.split("(")[0] for line in result.output.splitlines() if line[0] != " "}
    assert checked == {cls.__name__ for cls in gradsim_tasks.gradsim_register_tasks()}
    assert "Csv\n  not made  it reads a file" in result.output


def test_a_file_may_import_one_beside_it(gradsim_cli):
    Path("apart").mkdir()
    Path("apart/beside_it.py").write_text(CELL)
    Path("apart/heir.py").write_text("from beside_it import Mine\nclass Heir(Mine):\n    name = 'heir'\n")
    result = gradsim_cli("check", "apart/heir.py")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("Heir(input_size=3)")


ROUND_IT = """
from dataclasses import field
from gradsim import Wrapper

class Named(Mine):
    name = "named"

@dataclass(frozen=True, eq=False)
class Half(Wrapper):
    name = "half"
    cell: Cell = field(default_factory=Named)

    def mix(self, own, state, inputs, new, xp):
        return 0.5 * (state + new)

@dataclass(frozen=True, eq=False)
class Bare(Wrapper):
    name = "bare"
    cell: Cell

    def mix(self, own, state, inputs, new, xp):
        return new
"""


def test_what_classes_share_is_no_plugin_and_a_wrapper_with_defaults_is_one(gradsim_cli):
    Path("several.py").write_text(CELL.replace('name = "mine_alone"', "") + ROUND_IT)
    result = gradsim_cli("check", "several.py")
    assert result.exit_code == 0, result.output
    assert [line.split("(")[0] for line in result.output.splitlines() if line[0] != " "] == ["Named", "Half"]


@pytest.mark.parametrize("target", ["bad.py", "bad"])
@pytest.mark.parametrize("text", ["import numpyy\n", "x = 1 / 0\n", "def (:\n", "raise SystemExit(7)\n"])
def test_a_module_that_cannot_be_imported_fails_with_its_line(gradsim_cli, target, text):
    Path("bad.py").write_text(text)
    result = gradsim_cli("check", target)
    assert result.exit_code == 1
    assert f"{target} cannot be imported: " in result.output
    assert "bad.py, line 1)" in result.output


def test_a_binary_file_cannot_be_imported(gradsim_cli):
    Path("bad.py").write_bytes(bytes(range(256)))
    result = gradsim_cli("check", "bad.py")
    assert result.exit_code == 1
    assert result.output.startswith("Error: bad.py cannot be imported: SyntaxError: ")
    assert "importlib" not in result.output


@pytest.mark.parametrize("text", ["raise KeyError('nothing')\n", "import numpyy\n", "exit(3)\n"])
def test_a_package_that_cannot_be_imported_is_not_its_modules_being_unknown(gradsim_cli, text):
    Path("bad_package").mkdir()
    Path("bad_package/__init__.py").write_text(text)
    result = gradsim_cli("check", "bad_package.inside")
    assert result.exit_code == 1
    assert result.output.startswith("Error: bad_package.inside cannot be imported: ")
    assert "__init__.py, line 1)" in result.output or "SystemExit" in result.output


def test_a_module_without_plugins_says_what_keeps_a_class_from_being_one(gradsim_cli):
    Path("half.py").write_text(CELL.replace("def step", "def stepp"))
    result = gradsim_cli("check", "half.py")
    assert result.exit_code == 2
    assert "half.py defines no plugin: Mine lacks step\n" in result.output


@pytest.mark.parametrize("method", ["__post_init__", "__repr__"])
@pytest.mark.parametrize("raised", ["KeyError('nothing')", "SystemExit(3)"])
def test_a_plugin_that_raises_as_it_is_made_or_shown_fails(gradsim_cli, method, raised):
    Path("raising.py").write_text(f"{CELL}\n    def {method}(self):\n        raise {raised}\n")
    result = gradsim_cli("check", "raising.py")
    assert result.exit_code == 1
    assert f"Mine\n  FAILED    made with its defaults: {raised[:8]}" in result.output


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("elmn", "unknown plugin or module 'elmn'; did you mean 'elman'?"),
        ("not.there", "unknown plugin or module 'not.there'"),
        ("nowhere.py", "there is no file nowhere.py"),
        ("a_folder.py", "there is no file a_folder.py"),
        ("a_folder", "a_folder should be a .py file, or the name of a plugin or module"),
        ("..", ".. should be a .py file, or the name of a plugin or module"),
        ("", "should be a .py file, or the name of a plugin or module"),
    ],
)
def test_what_cannot_be_found_is_a_mistake_of_usage(gradsim_cli, target, message):
    for folder in ("a_folder", "a_folder.py"):
        Path(folder).mkdir()
    result = gradsim_cli("check", target)
    assert result.exit_code == 2
    assert message in result.output
