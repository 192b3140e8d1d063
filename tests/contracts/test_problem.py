"""Which pairs are recorded, and how many they are."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.errors import InputError
from gradsim_cells import Elman, Linear

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def test_plan_counts_pairs_and_bytes():
    plan = gradsim.prepare(Linear(2, 4), X, record=["product_norm", "jacobian_product"]).plan
    p = plan.problem
    assert p.pair_count == 28
    assert p.product_count == 21
    assert plan.data_bytes == 7 * 7 * 3 * (2 + 16) * 8
    band = gradsim.prepare(Linear(2, 4), X, pairs=Pairs(max_lag=2)).plan.problem
    assert (band.pair_count, band.product_count) == (7 + 6 + 5, 6 + 5)
    few = gradsim.prepare(Linear(2, 4), X, pairs=Pairs(times=(3, 5), sources=(1, 4))).plan.problem
    assert (few.pair_count, few.product_count) == (3, 5)


def test_counts_of_chosen_lags():
    """Each source is multiplied up to its longest lag that fits into the run."""
    inputs = np.zeros((60, 1, 2))
    problem = gradsim.prepare(Elman(2, 4), inputs, pairs=Pairs(lags=(1, 10, 50))).plan.problem
    assert problem.pair_count == 60 + 51 + 11
    assert problem.product_count == 11 * 50 + 40 * 10 + 9
    assert problem.sizes()["lag"] == 3


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"lags": (1, -2)}, r"pairs: lags should name at least one, 0 or more each \(got \[1, -2\]\)"),
        ({"lags": ()}, r"pairs: lags should name at least one, 0 or more each \(got \[\]\)"),
        ({"lags": (1, 61)}, r"pairs: lags should lie in 0..60 \(got \[1, 61\]\)"),
        ({"lags": (1,), "max_lag": 3}, "pairs: give max_lag or lags, not both"),
        ({"lags": (1,), "times": (3,)}, "pairs: give lags or times, not both"),
    ],
)
def test_lags_that_cannot_be(pairs, message):
    with pytest.raises(InputError, match=message):
        gradsim.simulate(Elman(2, 4), np.zeros((60, 1, 2)), pairs=Pairs(**pairs))
