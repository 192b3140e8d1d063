"""Nothing large is drawn before it is known to fit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import psutil
import pytest

import gradsim
from gradsim.errors import BudgetError, InputError
from gradsim.run.budget import FEW, refuse_large
from gradsim.run.estimate import estimate
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_tasks import Adding, Sunspots

CELL, TASK = Elman(2, 4), Adding(length=20)


@dataclass(frozen=True, eq=False)
class Counted(Adding):
    """Notes the largest batch that was drawn."""

    name = "counted"

    def sample(self, rng, batch):
        object.__setattr__(self, "largest", max(batch, getattr(self, "largest", 0)))
        return super().sample(rng, batch)


def test_a_batch_that_does_not_fit_is_refused_before_it_is_drawn():
    task = Counted(length=20)
    with pytest.raises(BudgetError, match=r"^10{12} sequences of Counted.* take .*TB of memory"):
        refuse_large(task, 10**12)
    assert task.largest == 1
    for call in (gradsim.simulate, gradsim.prepare):
        with pytest.raises(BudgetError, match=r"take .* TB of memory"):
            call(CELL, task=task, batch=10**12)
    with pytest.raises(BudgetError, match=r"take .* TB of memory"):
        gradsim.train(CELL, task, optimizer=SGD(0.1), updates=1, batch=10**12)
    assert task.largest <= FEW


def test_a_budget_is_checked_before_the_batch_is_drawn():
    task = Counted(length=20)
    with pytest.raises(BudgetError, match="this run needs at least"):
        gradsim.simulate(CELL, task=task, batch=10_000, memory=1e6)
    assert task.largest == FEW


def test_a_batch_larger_than_the_data_is_named_whole():
    for tried in (False, True):
        with pytest.raises(InputError, match=r"^batch should be at most 17, .* \(got 300000\)"):
            gradsim.prepare(Elman(1, 2), task=Sunspots(length=12), batch=300_000, tried=tried)


def test_a_sequence_that_does_not_fit_is_refused():
    with pytest.raises(BudgetError, match=r"1 sequences of Adding.* do not fit into memory"):
        gradsim.simulate(CELL, task=Adding(length=10**14))


def test_what_is_tried_draws_few_and_plans_all():
    task = Counted(length=20)
    tried = gradsim.prepare(CELL, task=task, batch=300_000, tried=True, record=["adjoint_norm"])
    whole = gradsim.prepare(CELL, task=Adding(length=20), batch=3_000, record=["adjoint_norm"]).plan
    assert task.largest == FEW
    assert tried.plan.problem.batch == 300_000
    assert tried.plan.data_bytes == 100 * whole.data_bytes
    assert estimate(tried, 1).time > 0
    assert task.largest == FEW
    with pytest.raises(InputError, match="tried=True can only be planned"):
        tried.run()


def test_a_large_batch_gives_what_it_gave(monkeypatch):
    rng = np.random.default_rng(3)
    found = gradsim.simulate(CELL, task=TASK, batch=FEW + 1, record=["loss"], rng=rng)
    seed = int(np.random.default_rng(3).integers(2**63))
    again = gradsim.prepare(CELL, task=TASK, batch=FEW + 1, record=["loss"], rng=seed).run()
    np.testing.assert_array_equal(found.loss, again.loss)


def test_a_few_sequences_are_drawn_at_once(monkeypatch):
    monkeypatch.setattr(psutil, "virtual_memory", lambda: pytest.fail("nobody should ask"))
    refuse_large(TASK, FEW)
