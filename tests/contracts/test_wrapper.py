"""Wrappers: names of their own, derivatives that chain, and any depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import assert_gradient_of_the_loss

import gradsim
from gradsim import Cell, Wrapper
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import drawn
from gradsim.errors import PluginError
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman
from gradsim_mitigations.gate import Gated
from gradsim_mitigations.leak import Leaky


@dataclass(frozen=True, eq=False)
class Zoneout(Wrapper):
    """Each unit keeps its state with probability `rate` at each step; while validating, the expectation.

    Krueger et al. (2017), Zoneout: regularizing RNNs by randomly preserving hidden activations.
    """

    name = "zoned"

    cell: Cell
    rate: float = 0.25

    def own_draw(self, rng, steps, batch, moment):
        shape = (steps, batch, self.state_size)
        drawn = 1.0 * (rng.random(shape) < self.rate)
        return {"keep": np.full(shape, self.rate) if moment.validating else drawn}

    def mix(self, own, state, inputs, new, xp, *, keep):
        return keep * state + (1 - keep) * new


@dataclass(frozen=True, eq=False)
class Clocked(Wrapper):
    """Has a bias, and asks for what is common to all."""

    name = "clocked_bias"
    cell: Cell

    def own_params(self, rng, inner):
        return {"b": 0.1 * rng.standard_normal(self.state_size) + 0.0 * inner["b"].sum()}

    def mix(self, own, state, inputs, new, xp, *, step_index):
        return xp.where(step_index[..., None] % 2 == 1, new + own["b"], new)


@dataclass(frozen=True, eq=False)
class Coupled(Wrapper):
    """Each unit sees the old state of another one, so that two groups of the cell inside become one."""

    name = "coupled"
    cell: Cell

    @property
    def jacobian_groups(self):
        return self.cell.jacobian_groups // 2

    def mix(self, own, state, inputs, new, xp):
        return new + 0.1 * xp.roll(state, self.jacobian_groups, axis=-1)


CELLS = {
    "coarser groups": Coupled(LRU(2, 4)),
    "zoneout": Zoneout(Elman(2, 4)),
    "diagonal": Zoneout(LRU(2, 3)),
    "two of a kind": Gated(Gated(LSTM(2, 2), 0.5), 0.5),
    "three deep": Leaky(Gated(Zoneout(GRU(2, 3)), 0.5), 0.3),
    "two masks": Zoneout(Gated(Zoneout(Elman(2, 4)), 1.0)),
    "dense around diagonal": Gated(Zoneout(LRU(2, 2)), 0.5),
    "common data": Clocked(Clocked(Zoneout(Elman(2, 3)))),
}
each = pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS.keys())


@each
def test_gradients_are_those_of_the_loss(cell, inputs):
    assert_gradient_of_the_loss(cell, inputs)


@each
def test_they_keep_the_contract_of_a_cell(cell):
    check_cell(cell)


@each
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_chained_derivatives_are_the_free_ones(cell, dtype, rng):
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    x, state, u = (rng.standard_normal((5, 3, n)).astype(dtype) for n in (2, *[cell.state_size] * 2))
    data = {n: np.asarray(d, dtype) for n, d in drawn(cell.draw, rng, x, Moment()).items()}
    data = {n: np.full((5, 3), 3) if n == "step_index" else data[n] for n in cell.step_data}
    close = {"rtol": 1e-12, "atol": 1e-13} if dtype == "float64" else {"rtol": 2e-5, "atol": 2e-5}
    for method, more in (("step_jacobian", ()), ("state_vjp", (u,)), ("params_vjp", (u,))):
        ours = getattr(cell, method)(params, state, x, *more, **data)
        theirs = getattr(Cell, method)(cell, params, state, x, *more, **data)
        ours, theirs = (found if isinstance(found, dict) else {"": found} for found in (ours, theirs))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            assert ours[name].dtype == dtype
            np.testing.assert_allclose(ours[name], value, **close)


def test_names_carry_the_depth():
    cell = Zoneout(Gated(Zoneout(Gated(Elman(2, 4), 1.0)), 1.0))
    assert [*cell.init_params(np.random.default_rng(0))] == [
        *("W", "U", "b", "gated1_W", "gated1_U", "gated1_b", "gated3_W", "gated3_U", "gated3_b")
    ]
    assert cell.step_data == ("zoned2_keep", "zoned4_keep")
    assert cell.recurrent_weights == ("U", "gated1_U", "gated3_U")


def test_a_mask_is_replayed_and_another_is_independent(inputs):
    cell = Zoneout(Zoneout(Elman(2, 4)))
    runs = [gradsim.simulate(cell, inputs, record=["state"], rng=seed) for seed in (7, 7, 8)]
    assert runs[0].identical(runs[1])
    assert not runs[0].state.equals(runs[2].state)
    one, other = drawn(cell.draw, np.random.default_rng(0), np.zeros((40, 50, 2)), Moment()).values()
    np.testing.assert_allclose(np.mean(one * other), 1 / 16, atol=0.01)


def test_what_is_inside_stays_as_it_is(inputs):
    """Parameters inside and the numbers that they are drawn from do not depend on what is around."""
    inside = Elman(2, 4).init_params(np.random.default_rng(4))
    around = Clocked(Gated(Elman(2, 4), 1.0)).init_params(np.random.default_rng(4))
    for name, value in inside.items():
        np.testing.assert_array_equal(around[name], value)


def test_a_validation_takes_the_expectation(inputs):
    cell = Zoneout(Elman(2, 4), rate=0.3)
    (keep,) = drawn(cell.draw, np.random.default_rng(0), inputs, Moment(purpose="validate")).values()
    assert (keep == 0.3).all()


@dataclass(frozen=True, eq=False)
class Taken(Elman):
    """Its parameters, or step data, bear the names that a wrapper would give its own."""

    data: bool = False

    def init_params(self, rng):
        return super().init_params(rng) | ({} if self.data else {"gated1_b": np.zeros(1)})

    @property
    def step_data(self):
        return ("gated1_mask",) if self.data else ()


@pytest.mark.parametrize(
    ("data", "what"), [(False, "parameter 'gated1_b'"), (True, "step datum 'gated1_mask'")]
)
def test_a_cell_inside_must_leave_the_names_of_a_wrapper_alone(inputs, data, what):
    with pytest.raises(PluginError, match=rf"the {what} of Taken\(.* would belong to Gated around it"):
        gradsim.simulate(Gated(Taken(2, 4, data=data), 1.0), inputs)


@dataclass(frozen=True, eq=False)
class Centred(Wrapper):
    """The unit in the middle is added to those beside it, to both alike."""

    name = "centred"

    cell: Cell

    def mix(self, own, state, inputs, new, xp):
        middle = new[..., 1:2]
        return xp.concat([new[..., :1] + middle, middle, new[..., 2:] + middle], axis=-1)


def test_units_that_are_mixed_are_not_taken_for_units_alone(rng):
    cell = Centred(Elman(2, 3))
    params, state, x = cell.init_params(rng), rng.standard_normal((1, 3)), rng.standard_normal((1, 2))
    rows = [cell.state_vjp(params, state, x, unit[None])[0] for unit in np.eye(3)]
    np.testing.assert_allclose(cell.step_jacobian(params, state, x)[0, 0], rows, atol=1e-15)
