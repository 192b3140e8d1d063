"""Steps of a cell that a library takes and pulls back, all or some of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import Stripped

from gradsim import Cell, Wrapper
from gradsim.contracts.compiled import CompiledSteps
from gradsim.contracts.trajectory import Trajectory, one_by_one
from gradsim.numerics import autodiff
from gradsim.numerics.autodiff.by_jax import ByJax
from gradsim_cells import LSTM, Elman, Stack
from gradsim_mitigations.leak import Leaky


@dataclass(frozen=True, eq=False)
class Damped(Wrapper):
    name = "damped"
    cell: Cell

    def mix(self, own, state, inputs, new, xp):
        return 0.5 * new


@pytest.fixture
def both(rng, inputs):
    """The same 12 steps, compiled and one by one."""
    cell = Stripped(Elman(2, 5))
    given = cell.init_params(rng), rng.standard_normal((3, 5)), inputs, {}, one_by_one
    with autodiff.deriving(ByJax(asked=True)):
        found = cell.unroll(*given)
    return found, cell.unroll(*given)


def test_steps_are_those_one_by_one(both):
    compiled, plain = both
    assert isinstance(compiled, CompiledSteps)
    assert type(plain) is Trajectory
    np.testing.assert_allclose(compiled.states, plain.states, rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize("steps", [range(1, 13), range(4, 9), range(12, 13)])
def test_any_of_them_are_pulled_back(both, steps, rng):
    direct, last = rng.standard_normal((len(steps), 3, 5)), rng.standard_normal((3, 5))
    ours, theirs = (
        t[range(1, 13)][range(2, 13) if steps[0] > 1 else steps][steps].pull(last, direct) for t in both
    )
    np.testing.assert_allclose(ours.adjoints, theirs.adjoints, rtol=1e-12, atol=1e-14)
    for of_parts in ("gradient", "contributions"):
        one, other = (getattr(p, of_parts)() for p in (ours, theirs))
        for n in other:
            np.testing.assert_allclose(one[n], other[n], rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("wrapped", [Damped, Leaky])
def test_cells_with_a_way_of_their_own_keep_it(wrapped, rng, inputs):
    small = Elman(2, 3)
    for cell, free in ((Stripped(small), True), (small, False), (Stack((small, LSTM(3, 2))), False)):
        assert cell.free == free
        outer = wrapped(cell, **({"rate": 0.5} if wrapped is Leaky else {}))
        given = outer.init_params(rng), np.zeros((3, cell.state_size)), inputs, {}
        with autodiff.deriving(ByJax(asked=True)):
            taken = outer.unroll(*given, one_by_one)
        assert isinstance(taken, CompiledSteps) == free
