"""What a plan refuses, and the budget that it asks for."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

import gradsim
from gradsim.errors import BudgetError
from gradsim.machine.disk import human
from gradsim_cells import Elman
from gradsim_mitigations import Truncate


def test_a_budget_below_one_segment_is_refused_with_the_least_that_works():
    arguments = {"inputs": np.ones((5000, 1, 1)), "record": ["gradient"]}
    with pytest.raises(BudgetError, match="at least") as caught:
        gradsim.simulate(Elman(1, 8), **arguments, memory=1000)
    least = gradsim.prepare(Elman(1, 8), **arguments).plan.memory_bytes
    assert human(least) in str(caught.value)
    gradsim.simulate(Elman(1, 8), **arguments, memory=least)
    with pytest.raises(BudgetError):
        gradsim.simulate(Elman(1, 8), **arguments, memory=least - 1)


def test_the_same_run_of_a_cell_is_planned_once(monkeypatch):
    cell, x = Elman(2, 8), np.ones((50, 3, 2))
    plan = gradsim.prepare(cell, x).plan
    assert gradsim.prepare(cell, 2 * x, rng=1, initial_state=np.ones(8)).plan is plan
    others = [
        gradsim.prepare(Elman(2, 8), x),
        gradsim.prepare(cell, x[:, :2]),
        gradsim.prepare(cell, x[1:]),
        gradsim.prepare(cell, x, dtype="float32"),
        gradsim.prepare(cell, x, record=["adjoint_norm"]),
        gradsim.prepare(cell, x, pairs=gradsim.Pairs(max_lag=3)),
        gradsim.prepare(cell, x, in_memory=False),
        gradsim.prepare(cell, x, mitigations=[Truncate(3, 5)]),
    ]
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    others += [gradsim.prepare(cell, x)] if plan.problem.cell.kernel and _numba() else []
    assert all(other.plan is not plan for other in others)


def _numba():
    return importlib.util.find_spec("numba") is not None
