"""Which pairs are recorded, and how many they are."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs
from gradsim.errors import InputError
from gradsim_cells import Elman, Linear
from gradsim_optimizers import SGD
from gradsim_tasks import FlipFlop

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
        ({"lags": (1, -2)}, r"pairs: lags.1 should be greater than or equal to 0 \(got -2\)"),
        ({"lags": ()}, r"pairs: lags should name at least one"),
        ({"lags": (1, 61)}, r"pairs: lags should lie in 0..60 \(got \[1, 61\]\)"),
        ({"lags": (1,), "max_lag": 3}, "pairs: give max_lag or lags, not both"),
        ({"lags": (1,), "times": (3,)}, "pairs: give lags or times, not both"),
    ],
)
def test_lags_that_cannot_be(pairs, message):
    with pytest.raises(InputError, match=message):
        gradsim.simulate(Elman(2, 4), np.zeros((60, 1, 2)), pairs=Pairs(**pairs))


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"times": (1.5,)}, r"times\.0 should be a valid integer \(got 1\.5\)"),
        ({"sources": (0, True)}, r"sources\.1 should be a valid integer \(got True\)"),
        ({"max_lag": 2.5}, r"max_lag should be a valid integer \(got 2\.5\)"),
        ({"max_lag": True}, r"max_lag should be a valid integer \(got True\)"),
        ({"times": 3}, r"times should be a list \(got 3\)"),
        ({"lags": np.array([0.0, 1.0])}, r"lags\.0 should be a valid integer \(got 0\.0\)"),
        ({"times": ()}, "times should name at least one"),
        ({"max_lag": 2**63}, r"max_lag should be below 2\*\*63"),
    ],
)
def test_only_whole_numbers_choose_pairs(pairs, message):
    with pytest.raises(InputError, match=f"^pairs: {message}"):
        Pairs(**pairs)


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ({"times": np.array([1, 3])}, {"times": (1, 3)}),
        ({"times": [np.int64(3), 5], "sources": range(2)}, {"times": (3, 5), "sources": (0, 1)}),
        ({"max_lag": np.uint8(2)}, {"max_lag": 2}),
        ({"lags": (np.int32(2), 0)}, {"lags": (2, 0)}),
    ],
)
def test_integers_of_numpy_choose_pairs_as_those_of_python_do(given, plain):
    assert Pairs(**given) == Pairs(**plain)
    found = gradsim.simulate(Elman(2, 4), X, pairs=Pairs(**given))
    xr.testing.assert_identical(found, gradsim.simulate(Elman(2, 4), X, pairs=Pairs(**plain)))


RECORD = ["jacobian_product", "product_norm", "product_spectrum", "loss_adjoint_norm"]


@pytest.mark.parametrize("store", [False, True])
@pytest.mark.parametrize(
    "pairs", [{"sources": (-1,)}, {"times": (0,)}, {"lags": (0,)}, {"sources": (6,), "max_lag": 3}]
)
def test_a_product_of_no_steps_is_the_identity(pairs, store, tmp_path):
    where = tmp_path / "run" if store else None
    found = gradsim.simulate(Elman(2, 4), X, record=RECORD, pairs=Pairs(**pairs), store=where)
    whole = gradsim.simulate(Elman(2, 4), X, record=RECORD)
    norms = found.product_norm.values
    assert ((norms == 2) | np.isnan(norms)).all()
    assert (norms == 2).sum() == 3 * (7 if "lags" in pairs else 1)
    if "lags" not in pairs and "max_lag" not in pairs:
        for name in found.data_vars:
            part = whole[name].sel(source=found.source.values)
            if "times" in pairs:
                part = part.sel(time=[0])
            np.testing.assert_array_equal(part.values, found[name].values)


@pytest.mark.parametrize("pairs", [{"times": (0, 1), "sources": (2,)}, {"sources": (5,), "lags": (3,)}])
def test_pairs_without_any_product_are_refused(pairs):
    with pytest.raises(InputError, match=r"^pairs: in 6 steps none .* no product P\(t, k\) \(got .*sources="):
        gradsim.simulate(Elman(2, 4), X, pairs=Pairs(**pairs))
    arguments = {"optimizer": SGD(learning_rate=0.1), "updates": 1, "batch": 2}
    probe = {"every": 1, "pairs": pairs}
    with pytest.raises(InputError, match="none of them has a time t at or behind its source k"):
        gradsim.train(Elman(2, 4), FlipFlop(length=6, channels=2), **arguments, record=probe)


def test_a_time_before_its_source_is_not_computed():
    found = gradsim.simulate(Elman(2, 4), X, pairs=Pairs(times=(1, 5), sources=(0, 3)))
    assert np.isnan(found.product_norm.sel(chosen_time=1, source=3)).all()
    assert np.isfinite(found.product_norm).sum() == 3 * 3
