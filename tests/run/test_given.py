"""Arrays that a user gives: labelled, masked, and told apart in provenance."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Cell, Episode, Task
from gradsim.errors import ChangedRunError, InputError
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm, Truncate
from gradsim_optimizers import SGD
from gradsim_tasks import Adding, Sunspots

RNG = np.random.default_rng(0)
X = RNG.standard_normal((6, 3, 2))
CELL = Elman(2, 4)
PARAMS = CELL.init_params(RNG)
S0 = RNG.standard_normal((3, 4))


def provenance(**arguments):
    ds = gradsim.simulate(arguments.pop("cell", CELL), **arguments)
    return json.loads(ds.attrs["provenance"])


def changed(array):
    other = array.copy()
    other.flat[-1] += 1e-9
    return other


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": changed(X)},
        {"inputs": X.astype(np.float32)},
        {"params": PARAMS | {"U": changed(PARAMS["U"])}},
        {"initial_state": changed(S0)},
        {"initial_state": S0[0]},
    ],
)
def test_runs_with_other_arrays_have_another_provenance(other):
    arguments = {"inputs": X, "params": PARAMS, "initial_state": S0}
    first, again = provenance(**arguments), provenance(**arguments)
    assert first == again
    assert first["given"].keys() == arguments.keys()
    second = provenance(**arguments | other)
    assert [key for key in first if first[key] != second[key]] == ["given"]


def test_a_seed_that_drew_nothing_is_not_named():
    found = provenance(inputs=X, params=PARAMS, rng=5)
    assert (found["seed"], found["drawn"]) == (None, [])
    assert found["given"]["params"]["U"].startswith("array of shape (4, 4), dtype float64, sha256 ")


@dataclass(frozen=True, eq=False)
class Noisy(Cell):
    """Draws at every step."""

    name = "noisy"
    input_size = 2
    blocks = {"h": 2}  # noqa: RUF012

    def init_params(self, rng):
        return {"U": rng.standard_normal((2, 2))}

    def draw(self, rng, steps, batch):
        return {"noise": rng.standard_normal((steps, batch, 2))}

    def step(self, params, state, inputs, xp, *, noise):
        return xp.tanh(state @ params["U"].T + noise)


@pytest.mark.parametrize(
    ("arguments", "drawn"),
    [
        ({"inputs": X}, ["params"]),
        ({"inputs": X, "mitigations": [ClipNorm(1.0), Truncate(2, 4)]}, ["params"]),
        ({"inputs": X, "cell": Noisy()}, ["params", "cell"]),
        ({"task": Adding(length=20)}, ["params", "task", "readout"]),
        ({"task": Adding(length=20), "params": PARAMS}, ["task", "readout"]),
        (
            {"task": Adding(length=20), "params": PARAMS | {"readout_W": np.ones((1, 4)), "readout_b": [0]}},
            ["task"],
        ),
    ],
)
def test_what_was_drawn_from_the_seed_is_named(arguments, drawn):
    found = provenance(**arguments, rng=5)
    assert found["drawn"] == drawn
    assert found["seed"]["entropy"] == "5"


def frame(*dims, array=X):
    return xr.DataArray(array, dims=("time", "batch", "feature")).transpose(*dims)


@pytest.mark.parametrize("dims", [("time", "batch", "feature"), ("batch", "feature", "time")])
def test_labelled_inputs_are_read_by_name(dims):
    inputs = frame(*dims).assign_coords(time=np.arange(6)[::-1])
    xr.testing.assert_identical(gradsim.simulate(CELL, inputs), gradsim.simulate(CELL, X))


def test_labelled_states_and_parameters_are_read_by_name():
    state = xr.DataArray(S0.T, dims=("component", "batch"))
    params = PARAMS | {"W": xr.DataArray(PARAMS["W"].T, dims=("W_column", "W_row"))}
    found = gradsim.simulate(CELL, X, initial_state=state, params=params)
    xr.testing.assert_identical(found, gradsim.simulate(CELL, X, initial_state=S0, params=PARAMS))
    first = gradsim.simulate(CELL, X, record=["state"])
    gradsim.simulate(CELL, X, initial_state=first.state.isel(time=-1))


UNDERSTOOD = r"\('time', 'batch', another\) are understood"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            {"inputs": frame().rename(time="t")},
            r"^inputs .* \('feature', 'batch', 't'\).* " + UNDERSTOOD,
        ),
        ({"inputs": frame().rename(feature="step")}, UNDERSTOOD),
        ({"inputs": frame().isel(batch=0)}, UNDERSTOOD + r".*\.expand_dims.*\.values"),
        ({"inputs": frame().to_dataset(name="x")}, "^inputs should"),
        ({"inputs": list(frame())}, "^inputs is a list of labelled or masked arrays; join them with xarray"),
        (
            {"inputs": X, "initial_state": xr.DataArray(S0[0], dims="batch")},
            r"^initial_state .* \(another\) or \(",
        ),
        ({"inputs": X, "initial_state": xr.DataArray(S0, dims=("x", "y"))}, "^initial_state is a DataArray"),
        (
            {"inputs": X, "params": PARAMS | {"U": xr.DataArray(PARAMS["U"], dims=("x", "y"))}},
            r"^params\['U'\] is a DataArray with .* \('U_row', 'U_column'\) are understood",
        ),
    ],
)
def test_dims_that_say_nothing_are_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        gradsim.simulate(CELL, **arguments)


def masked(array, mask=True):
    return np.ma.array(array, mask=np.arange(array.size).reshape(array.shape) == (1 if mask else -1))


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"inputs": masked(X)}, "inputs"),
        ({"inputs": X, "initial_state": masked(S0)}, "initial_state"),
        ({"inputs": X, "params": PARAMS | {"W": masked(PARAMS["W"])}}, r"params\['W'\]"),
    ],
)
def test_masked_entries_are_refused(arguments, name):
    with pytest.raises(InputError, match=rf"^{name} has 1 masked entries; fill them in \(\.filled\)"):
        gradsim.simulate(CELL, **arguments)


def test_an_array_that_masks_nothing_is_an_array():
    found = gradsim.simulate(CELL, masked(X, False), initial_state=masked(S0, False))
    xr.testing.assert_identical(found, gradsim.simulate(CELL, X, initial_state=S0))


@dataclass(frozen=True, eq=False)
class Held(Task):
    """Asks for nothing, of inputs that it holds."""

    name = "held"
    readout = False
    input_size = 2
    output_size = None

    data: np.ndarray

    def sample(self, rng, batch):
        x = self.data[:, :batch]
        return Episode(x, x[..., 0], np.ones(x.shape[:2]))

    def loss(self, outputs, targets, xp):
        return outputs.sum(axis=-1)


def test_arrays_that_a_task_holds_are_told_apart_and_not_masked():
    first, second = (provenance(task=Held(x), params=PARAMS) for x in (X, changed(X)))
    assert first["task"] != second["task"]
    assert first["task"]["data"].startswith("array of shape (6, 3, 2), dtype float64, sha256 ")
    assert first["drawn"] == []
    assert type(Held(masked(X, False)).data) is np.ndarray
    with pytest.raises(InputError, match=r"^Held: data has 1 masked entries"):
        Held(masked(X))


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ([[[1.0], [2.0, 3.0]]], r"^inputs should be an array of numbers \(.*inhomogeneous"),
        ("x", "^inputs should hold real numbers, got dtype <U1"),
        (X > 0, "^inputs should hold real numbers, got dtype bool"),
        (CELL, "^inputs should hold real numbers, got dtype object"),
    ],
)
def test_what_are_no_numbers_is_refused(inputs, message):
    with pytest.raises(InputError, match=message):
        gradsim.simulate(CELL, inputs)


def test_a_training_says_what_was_drawn_and_given(tmp_path):
    cell, task = Elman(1, 3), Sunspots(length=12)
    setting = {"optimizer": SGD(0.1), "updates": 2, "batch": 2, "store": tmp_path / "run"}
    params = cell.init_params(RNG) | {"readout_W": RNG.standard_normal((1, 3)), "readout_b": np.zeros(1)}
    found = json.loads(gradsim.train(cell, task, **setting, params=params).attrs["provenance"])
    assert found["drawn"] == ["order"]
    assert found["given"]["params"].keys() == params.keys()
    with pytest.raises(ChangedRunError, match=r"given\.params\.U: 'array .* sha256 (\w+)' is now 'array "):
        gradsim.train(cell, task, **setting, params=params | {"U": changed(params["U"])}, resume=True)
    setting = {"optimizer": SGD(0.1), "updates": 2, "batch": 2, "mitigations": [Truncate(2, 4)]}
    assert gradsim.prepare_training(cell, task, **setting).provenance["drawn"] == [
        "params",
        "readout",
        "order",
    ]
