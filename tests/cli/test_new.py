"""`gradsim new`: a package that works as it was written, around mathematics that hold."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import gradsim
from gradsim.cli.new import class_name
from gradsim_cells import Elman, Linear


def written(gradsim_cli, family, name):
    """The class in a package that was just written."""
    result = gradsim_cli("new", family, name)
    assert result.exit_code == 0
    folder = Path(f"gradsim-{name.replace('_', '-')}")
    spec = importlib.util.spec_from_file_location(f"gradsim_{name}", folder / f"gradsim_{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return getattr(module, class_name(name))


TRIED = {
    "cell": "gradsim run --cell my_own",
    "mitigation": "gradsim run --mitigation my_own",
    "task": "gradsim run --task my_own",
    "optimizer": "gradsim check my_own",
    "recorder": "gradsim run --record my_own",
    "initializer": "gradsim run --cell elman --set cell.recurrent_init=my_own",
}


@pytest.mark.parametrize("family", TRIED)
def test_a_package_has_an_entry_point_a_test_and_a_readme(gradsim_cli, family):
    result = gradsim_cli("new", family, "my_own", "--dir", "plugins")
    assert result.exit_code == 0
    assert "python -m pytest plugins/gradsim-my-own" in result.output
    folder = Path("plugins/gradsim-my-own")
    files = {str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file()}
    assert files == {"pyproject.toml", "README.md", "gradsim_my_own.py", "tests/test_my_own.py"}
    project = tomllib.loads((folder / "pyproject.toml").read_text())["project"]
    assert project["name"] == "gradsim-my-own"
    assert project["entry-points"]["gradsim"] == {"my_own": "gradsim_my_own"}
    assert TRIED[family] in result.output
    assert TRIED[family] in (folder / "README.md").read_text()
    assert all("$" not in p.read_text() for p in folder.rglob("*") if p.is_file())


def test_the_cell_has_the_step_jacobian_that_its_docstring_gives(gradsim_cli, rng):
    cell = written(gradsim_cli, "cell", "my_cell")(input_size=2, hidden_size=5, rate=0.3)
    params = cell.init_params(rng)
    inputs = rng.standard_normal((6, 1, 2))
    ds = gradsim.simulate(cell, inputs, params=params, record=["state", "step_jacobian"])
    state = ds["state"].values[:, 0]
    new = (state[1:] - 0.7 * state[:-1]) / 0.3
    expected = 0.7 * np.eye(5) + 0.3 * (1 - new**2)[..., None] * params["W"]
    np.testing.assert_allclose(ds["step_jacobian"].values[:, 0], expected, rtol=1e-10)


def test_the_mitigation_discounts_the_product(gradsim_cli, rng):
    mitigation = written(gradsim_cli, "mitigation", "my_discount")(factor=0.5)
    names = ["jacobian_product", "effective_jacobian_product"]
    inputs = rng.standard_normal((5, 2, 1))
    ds = gradsim.simulate(Elman(hidden_size=3), inputs, mitigations=[mitigation], record=names)
    raw, effective = (ds[name].sel(time=5, source=2).values for name in names)
    np.testing.assert_allclose(effective, 0.5**3 * raw, rtol=1e-12)


def test_the_task_asks_for_the_delayed_input(gradsim_cli, rng):
    task = written(gradsim_cli, "task", "my_task")(length=8, delay=3)
    episode = task.sample(rng, 4)
    np.testing.assert_array_equal(episode.targets[3:], episode.inputs[:-3])
    np.testing.assert_allclose(episode.weights.sum(axis=0), 1)
    ds = gradsim.simulate(Elman(input_size=1), task=task, batch=4, record=["loss"])
    assert dict(ds.sizes) == {"step": 8, "batch": 4}
    with pytest.raises(gradsim.errors.InputError, match="delay should be below length=3"):
        type(task)(length=3, delay=3)


def test_the_optimizer_moves_every_parameter_by_the_rate(gradsim_cli):
    optimizer = written(gradsim_cli, "optimizer", "my_optimizer")(beta=0.75)
    slots = {"mean": np.zeros(3)}
    for update, sign in ((1, -1), (2, -1), (3, -1), (4, 1)):  # 1 - 0.75^3 of the mean is left to turn
        gradient = np.array([1.0, -20.0, 1e-3]) * (1 if update < 4 else -3)
        change = optimizer.change(np.zeros(3), gradient, slots, 0.1, update)
        np.testing.assert_allclose(change, sign * 0.1 * np.sign([1, -1, 1]))


def test_the_recorder_gives_the_spectral_radius(gradsim_cli, rng):
    recorder = written(gradsim_cli, "recorder", "my_radius")()
    weights = np.array([[0.0, 2.0], [-2.0, 0.0]])  # eigenvalues 2i and -2i
    params = {"U": weights, "W": np.ones((2, 1))}
    inputs = rng.standard_normal((5, 3, 1))
    ds = gradsim.simulate(Linear(hidden_size=2), inputs, params=params, record=[recorder])
    np.testing.assert_allclose(ds["my_radius"].values, np.full((5, 3), 2.0), rtol=1e-12)


def test_the_initializer_leaves_as_many_weights_as_it_says(gradsim_cli, rng):
    initializer = written(gradsim_cli, "initializer", "my_start")(count=3)
    params = Elman(hidden_size=8, recurrent_init=initializer).init_params(rng)
    np.testing.assert_array_equal((params["U"] != 0).sum(axis=1), 3)


@pytest.mark.parametrize("family", TRIED)
def test_the_test_of_a_package_passes(gradsim_cli, family):
    gradsim_cli("new", family, "my_own")
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "gradsim-my-own"]
    environment = {**os.environ, "PYTHONPATH": "gradsim-my-own"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout
    assert "failed" not in done.stdout


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("MyCell", "lower-case words joined by _"),
        ("my-cell", "lower-case words joined by _"),
        ("2d", "lower-case words joined by _"),
        ("none", "lower-case words joined by _"),  # its class would be called None
        ("../evil", "lower-case words joined by _"),
        ("elman", "'elman' is taken: gradsim "),
        ("clip_norm", "'clip_norm' is taken: gradsim "),
        ("cells", "a module gradsim_cells is installed"),
    ],
)
def test_a_bad_or_taken_name_is_refused(gradsim_cli, name, message):
    result = gradsim_cli("new", "cell", name)
    assert result.exit_code == 2
    assert message in result.output
    assert list(Path().iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(gradsim_cli):
    Path("gradsim-mine").mkdir()
    result = gradsim_cli("new", "cell", "mine")
    assert result.exit_code == 1
    assert "gradsim-mine is there already; choose another NAME or --dir" in result.output
    assert list(Path("gradsim-mine").iterdir()) == []


def test_a_place_that_cannot_be_written_is_an_error(gradsim_cli):
    Path("file").write_text("")
    result = gradsim_cli("new", "cell", "mine", "--dir", "file/below")
    assert result.exit_code == 1
    assert "cannot write file/below/gradsim-mine: Not a directory; choose another --dir" in result.output
