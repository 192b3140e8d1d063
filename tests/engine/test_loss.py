"""The loss of a run and its readout."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim import Cell, Episode, Task
from gradsim.errors import DivergedError, NonFiniteError
from gradsim_cells import LSTM, Elman, Linear
from gradsim_optimizers import SGD
from gradsim_tasks import Adding, TemporalOrder

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def test_the_default_loss_is_the_sum_of_the_last_outputs():
    ds = gradsim.simulate(LSTM(2, 4), X, record=["state", "adjoint", "loss"])
    assert ds.attrs["loss"] == pytest.approx(float(ds.state[-1, :, :4].sum() / 3), rel=1e-14)
    assert ds.loss[:-1].sum() == 0
    np.testing.assert_array_equal(ds.adjoint[-1], np.tile([1 / 3] * 4 + [0] * 4, (3, 1)))


@pytest.mark.parametrize("task", [Adding(length=20), TemporalOrder(length=20)], ids=lambda t: t.name)
def test_gradient_of_the_readout(task):
    cell = Elman(task.input_size, 4)
    ds = gradsim.simulate(cell, task=task, batch=3, record=["gradient"], rng=1)
    streams = np.random.SeedSequence(1, spawn_key=(0,)), np.random.SeedSequence(1, spawn_key=(3,))
    own = cell.init_params(np.random.default_rng(streams[0]))
    readout = np.random.default_rng(streams[1]).standard_normal((task.output_size, 4)) / 2
    params = own | {"readout_W": readout, "readout_b": np.zeros(task.output_size)}
    for name in ("readout_W", "readout_b"):
        expected = numerical_gradient(lambda p: loss_of(cell, p, task=task, batch=3, rng=1), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-9)


@dataclass(frozen=True, eq=False)
class Far(Task):
    """Loss at all steps, or some; the inputs of batch element 1 jump to `size` at step 3."""

    name = "far"
    size: float
    kind: str = "square"
    weights: tuple = (1, 1, 1, 1, 1)
    input_size = output_size = 1

    def sample(self, rng, batch):
        inputs = np.zeros((5, batch, 1))
        inputs[2, 1] = self.size
        return Episode(inputs, np.zeros((5, batch, 1)), np.tile(np.array([self.weights], float).T, batch))

    def loss(self, outputs, targets, xp):
        error = (outputs - targets)[..., 0]
        ways = {"square": lambda: error**2, "line": lambda: error, "steep": lambda: 1e30 * xp.sin(error)}
        return ways[self.kind]()


def far(size, kind="square", dtype="float32", weights=(1, 1, 1, 1, 1), **setting):
    """s_t = s_{t-1} / 2 + x_t, and a readout that hands it on."""
    params = {"U": [[0.5]], "W": [[1.0]], "readout_W": [[1.0]], "readout_b": [0.0]}
    record = {"record": ["loss", "gradient"]} if "updates" not in setting else {}
    run = gradsim.train if "updates" in setting else gradsim.simulate
    return run(
        Linear(1, 1),
        task=Far(size, kind, weights),
        batch=2,
        params=params | setting.pop("params", {}),
        dtype=dtype,
        **record,
        **setting,
    )


BEYOND = {
    "loss": ({"size": 1e25}, "Far.*: the loss is inf for the first time at step 3, batch 1"),
    "few steps": (
        {"size": 1e25, "weights": (0, 1, 0, 0, 1)},
        "Far.*: the loss is inf for the first time at step 5, batch 1",
    ),
    "readout": (
        {"size": 1e10, "kind": "steep"},
        "Far.*: the gradient of readout_W leaves the range of float32, most at step 3, batch 1",
    ),
    "slope": (
        {"size": 1e-20, "kind": "steep", "params": {"readout_W": [[1e20]]}},
        "Far.*: the derivative of the loss with respect to the state is inf .* at step 1, batch 0",
    ),
}


@pytest.mark.parametrize("way", [{}, {"updates": 1, "optimizer": SGD(1e-30)}], ids=["simulate", "train"])
@pytest.mark.parametrize(("setting", "message"), BEYOND.values(), ids=BEYOND.keys())
def test_a_loss_and_a_readout_beyond_the_range_are_named(setting, message, way):
    error = DivergedError if way else NonFiniteError
    with pytest.raises(error, match=message + ".* dtype='float64'"):
        far(**setting, **way)
    assert np.isfinite(far(**setting, **way, dtype="float64").attrs["loss"])


def test_losses_that_add_up_beyond_float64_are_named():
    with pytest.raises(NonFiniteError, match="the losses of steps 1 to 5 add up to inf"):
        far(1.7e308, "line", "float64", weights=(1, 1, 1, 2, 4))


@pytest.mark.parametrize("contributions", [False, True])
def test_the_default_loss_beyond_the_range_is_named(contributions):
    inputs = np.full((3, 2, 2), 1e38)
    inputs[:, 1] *= 3
    params = {"U": np.zeros((2, 2)), "W": np.eye(2)}
    setting = {"params": params, "record": ["contribution" if contributions else "loss"]}
    with pytest.raises(
        NonFiniteError, match=r"Linear.*: the loss is inf for the first time at step 3, batch 1"
    ):
        gradsim.simulate(Linear(2, 2), inputs, dtype="float32", **setting)
    assert gradsim.simulate(Linear(2, 2), inputs, **setting).attrs["loss"] == 4e38


@dataclass(frozen=True, eq=False)
class Rooted(Cell):
    """It shows the root of its state, whose slope at 0 is infinite."""

    name = "rooted"
    input_size = 1
    output_size = 1

    @property
    def blocks(self):
        return {"h": 1}

    def init_params(self, rng):
        return {"w": np.ones(1)}

    def step(self, params, state, inputs, xp):
        return 0.5 * state + params["w"] * inputs

    def output(self, params, state, inputs, xp):
        return xp.sqrt(state)


def test_an_output_without_a_slope_is_named():
    inputs = np.array([1.0, 0.0])[None, :, None]
    with pytest.raises(
        NonFiniteError, match=r"derivative of the loss with respect to the state is .* step 1, batch 1"
    ):
        gradsim.simulate(Rooted(), inputs, record=["gradient"])
