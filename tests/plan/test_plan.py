"""What a plan refuses, and the budget that it asks for."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.errors import BudgetError
from gradsim.machine.disk import human
from gradsim_cells import Elman


def test_a_budget_below_one_segment_is_refused_with_the_least_that_works():
    arguments = {"inputs": np.ones((5000, 1, 1)), "record": ["gradient"]}
    with pytest.raises(BudgetError, match="at least") as caught:
        gradsim.simulate(Elman(1, 8), **arguments, memory=1000)
    least = gradsim.prepare(Elman(1, 8), **arguments).plan.memory_bytes
    assert human(least) in str(caught.value)
    gradsim.simulate(Elman(1, 8), **arguments, memory=least)
    with pytest.raises(BudgetError):
        gradsim.simulate(Elman(1, 8), **arguments, memory=least - 1)
