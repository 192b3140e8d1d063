"""What a loss looks at: the output of a cell that is no block of its state, with a readout or without."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient
from sru import SRU

import gradsim
from gradsim import Cell, Derived, Episode, Task, Wrapper
from gradsim.contracts.task import squared_error
from gradsim.errors import InputError, PluginError
from gradsim.testing import conformance
from gradsim_cells import Elman, Stack
from gradsim_mitigations import ClipNorm, Truncate
from gradsim_optimizers import Adam

test_sru = conformance(SRU(input_size=3))

TWO = SRU(input_size=2)


@dataclass(frozen=True, eq=False)
class Chosen(Task):
    """Random targets, and a loss at chosen steps only."""

    name = "chosen"
    size: int = 2
    length: int = 5
    steps: tuple[int, ...] = (2, 5)

    @property
    def input_size(self):
        return 3

    @property
    def output_size(self):
        return self.size

    def sample(self, rng, batch):
        weights = np.zeros((self.length, batch))
        weights[np.array(self.steps) - 1] = np.arange(1, batch + 1)
        targets = rng.standard_normal((self.length, batch, self.size))
        return Episode(rng.standard_normal((self.length, batch, 3)), targets, weights)

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)


class Unread(Chosen):
    name = "unread"
    readout = False
    metric = "minus the loss"

    def score(self, outputs, targets):
        return -squared_error(outputs, targets, np)


@dataclass(frozen=True, eq=False)
class First(Chosen):
    """The first unit, however many there are."""

    name = "first"
    readout = False
    output_size = None

    def loss(self, outputs, targets, xp):
        return (outputs[..., 0] - targets[..., 0]) ** 2


test_tasks_without_a_readout = conformance(Unread(size=4), First())

TASKS = {"readout": Chosen(), "unread": Unread(size=3), "first": First()}


def test_a_cell_with_an_output_has_no_state_for_it():
    cell = SRU(input_size=4)
    assert (cell.state_size, cell.jacobian_groups, cell.output_size) == (4, 4, 4)
    ds = gradsim.simulate(cell, np.ones((50, 1, 4)), record=["lyapunov"])
    assert np.isfinite(ds.lyapunov).all()


@pytest.mark.parametrize("task", TASKS.values(), ids=TASKS)
@pytest.mark.parametrize("cell", [SRU(3), Elman(3, 3)], ids=["output", "blocks"])
@pytest.mark.parametrize(("batch", "length"), [(1, 5), (4, 5), (2, 1)])
def test_the_gradient_is_the_slope_of_the_loss(cell, task, batch, length):
    steps = (1,) if length == 1 else task.steps
    given = {"task": replace(task, length=length, steps=steps), "batch": batch, "rng": 3}
    params = cell.init_params(np.random.default_rng(0))
    ds = gradsim.simulate(cell, params=params, record=["gradient", "contribution"], **given)
    half = gradsim.simulate(cell, params=params, record=["gradient"], dtype="float32", **given)
    assert ("gradient_readout_W" in ds) == task.readout
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, **given), params, name)
        found, single = (x[f"gradient_{name}"] for x in (ds, half))
        np.testing.assert_allclose(found, expected, rtol=2e-6, atol=1e-8)
        np.testing.assert_allclose(ds[f"contribution_{name}"].sum("step"), found, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(single, found, rtol=1e-3, atol=1e-4)
        assert single.dtype == np.float32


@pytest.mark.parametrize("steps", [1, 6])
def test_without_a_task_the_loss_is_the_sum_of_the_last_outputs(steps, rng):
    cell, inputs = SRU(2), rng.standard_normal((steps, 3, 2))
    params = cell.init_params(rng)
    ds = gradsim.simulate(
        cell, inputs, params=params, record=["state", "adjoint", "gradient", "contribution"]
    )
    last = cell.output(params, ds.state.values[-1], inputs[-1], np)
    assert ds.attrs["loss"] == pytest.approx(last.sum() / 3, rel=1e-14)
    gate = np.tanh(inputs[-1] @ params["W_r"].T) / 2 + 0.5
    np.testing.assert_allclose(ds.adjoint[-1], gate / 3, rtol=1e-14)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-10)
        np.testing.assert_allclose(
            ds[f"contribution_{name}"].sum("step"), ds[f"gradient_{name}"], rtol=1e-12, atol=1e-15
        )


@dataclass(frozen=True, eq=False)
class Weighed(Cell):
    """h_t = w h_{t-1} + x_t, read as w h_t: one parameter in the step and in the output."""

    name = "weighed"
    input_size = 1

    @property
    def blocks(self):
        return {"h": 1}

    def init_params(self, rng):
        return {"w": np.array([8.0])}

    def step(self, params, state, inputs, xp):
        return params["w"] * state + inputs

    def output(self, params, state, inputs, xp):
        return params["w"] * state


def test_an_output_enters_where_adjoints_leave_the_range():
    """States h_t = x (8^t - 1) / 7 and adjoints 8^(T-t+1), up to 1e+361."""
    steps, x = 400, 1e-300
    ds = gradsim.simulate(Weighed(), np.full((steps, 1, 1), x), record=["contribution_norm"])
    t = np.arange(1, steps + 1)
    log_h = np.log10(x / 7) + t * np.log10(8) + np.log1p(-(8.0**-t)) / np.log(10)
    expected = np.append(-np.inf, log_h[:-1]) + (steps - t + 1) * np.log10(8)
    expected[-1] = np.log10(10 ** expected[-1] + 10 ** log_h[-1])
    np.testing.assert_allclose(ds.contribution_norm_log10.sel(param="w"), expected, rtol=1e-10)


@dataclass(frozen=True, eq=False)
class Leaky(Wrapper):
    """With a rate for each unit, which is trained."""

    name = "leaky_sru"
    cell: Cell = TWO

    def own_params(self, rng):
        return {"rate": rng.uniform(0.2, 0.8, self.cell.state_size)}

    def mix(self, own, state, inputs, new, xp):
        return (1 - own["rate"]) * state + own["rate"] * new


@dataclass(frozen=True, eq=False)
class Normed(Derived):
    """With W over its norm."""

    name = "normed_sru"
    cell: Cell = TWO

    def derive(self, own, inner, xp):
        return {n: inner[n] / xp.sqrt(xp.sum(inner[n] ** 2)) for n in ("W", "W_r")}


ROUND = {
    "leaky": Leaky(),
    "normed": Normed(),
    "leaky_normed": Leaky(Normed()),
    "stack": Stack((SRU(2), SRU(2))),
}
test_what_is_around_an_output = conformance(*ROUND.values())


@pytest.mark.parametrize("cell", ROUND.values(), ids=ROUND)
def test_what_is_around_a_cell_has_its_output(cell, rng):
    inputs, params = rng.standard_normal((4, 3, 2)), cell.init_params(rng)
    ds = gradsim.simulate(cell, inputs, params=params, record=["gradient", "contribution"])
    assert (cell.own_output, cell.output_size) == (True, 2)
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-9)
        total = ds[f"contribution_{name}"].sum("step")
        np.testing.assert_allclose(total, ds[f"gradient_{name}"], rtol=1e-11, atol=1e-14)


def test_a_stack_is_read_through_the_output_of_its_last_layer(rng):
    """And by the layer above, which is no block of the state below."""
    cell, inputs = Stack((SRU(2), SRU(2))), rng.standard_normal((3, 1, 2))
    params = cell.init_params(rng)
    below, above = ({n[7:]: p for n, p in params.items() if n[5] == i} for i in "01")
    states, total = np.zeros((2, 1, 2)), 0.0
    for x in inputs:
        states[0] = SRU(2).step(below, states[0], x, np)
        x = SRU(2).output(below, states[0], x, np)
        states[1] = SRU(2).step(above, states[1], x, np)
        total = SRU(2).output(above, states[1], x, np).sum()
    assert gradsim.simulate(cell, inputs, params=params).attrs["loss"] == pytest.approx(total, rel=1e-13)


def test_without_an_output_inside_there_is_none_around():
    for cell in (Leaky(Elman(2, 3)), Normed(Elman(2, 3)), Stack((SRU(2), Elman(2, 3)))):
        assert not cell.own_output


class TooFew(SRU):
    name = "too_few"
    output_size = 1


def test_an_output_of_another_size_is_refused():
    with pytest.raises(
        PluginError, match=r"TooFew.*output\(\) returns shape \(2, 3\) where \(2, 1\) is needed"
    ):
        gradsim.simulate(TooFew(3), np.ones((2, 1, 3)))


class Numpy(SRU):
    name = "numpy"

    def output(self, params, state, inputs, xp):
        return np.tanh(np.asarray(state))


def test_an_output_that_cannot_be_traced_is_named():
    match = r"^Numpy\(input_size=1\): output\(\) cannot be traced .*; use xp\.tanh in place of np\.tanh"
    with pytest.raises(PluginError, match=match):
        gradsim.simulate(Numpy(), np.ones((3, 1, 1)), record=["gradient"])


def test_a_task_without_a_readout_needs_a_cell_of_its_size():
    with pytest.raises(InputError, match=r"unread looks at 3 outputs itself.*Elman.* has 5; .*output_size=3"):
        gradsim.simulate(Elman(3, 5), task=Unread(size=3))
    with pytest.raises(InputError, match=r"unread looks at 2 outputs"):
        gradsim.train(SRU(3), Unread(size=2), optimizer=Adam(0.1), updates=1)


def test_without_a_readout_the_loss_is_that_of_the_frozen_identity():
    """The same loss, adjoints and gradients as through a readout that says what it sees."""
    cell = SRU(3)
    params = cell.init_params(np.random.default_rng(1))
    record = ["loss", "adjoint", "gradient", "loss_adjoint_norm"]
    seen = gradsim.simulate(cell, task=Unread(size=3), batch=2, params=params, record=record)
    identity = {"readout_W": np.eye(3), "readout_b": np.zeros(3)}
    read = gradsim.simulate(cell, task=Chosen(size=3), batch=2, params=params | identity, record=record)
    for name in ("loss", "adjoint", "loss_adjoint_norm", *(f"gradient_{n}" for n in params)):
        np.testing.assert_allclose(seen[name], read[name], rtol=1e-13, atol=1e-16)
    assert seen.attrs["loss"] == pytest.approx(read.attrs["loss"], rel=1e-14)


@pytest.mark.parametrize("cell", [SRU(3), Elman(3, 3)], ids=["output", "blocks"])
def test_training_and_validation_without_a_readout(cell):
    """The loss falls, and the score is told."""
    task = Unread(size=3)
    ds = gradsim.train(
        cell,
        task,
        optimizer=Adam(0.01),
        updates=30,
        batch=4,
        mitigations=[ClipNorm(1.0), Truncate(2, 4)],
        validate={"every": 10, "sequences": 50},
        record={"every": 15, "recorders": ["adjoint_norm"], "batch": 2},
    )
    assert ds.validation_loss[-1] < ds.validation_loss[0]
    weight = 12 * 2 * (1 + 2 + 3 + 4) + 2 * (1 + 2)  # of 12 batches of 4 and one of 2, at two steps
    np.testing.assert_allclose(-ds.validation_score * weight / 50, ds.validation_loss, rtol=1e-12)
    assert not any("readout" in str(name) for name in ds.variables)


def test_nothing_is_done_where_no_loss_counts(monkeypatch):
    seen = []
    output = SRU.output
    monkeypatch.setattr(
        SRU, "output", lambda self, p, s, x, xp: seen.append(len(s)) or output(self, p, s, x, xp)
    )
    gradsim.simulate(SRU(3), task=Unread(size=3, length=100, steps=(40, 41)), record=["adjoint", "gradient"])
    assert max(seen) == 2
