from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs, analysis
from gradsim.analysis.rates import student_t
from gradsim.errors import InputError
from gradsim_cells import Elman, Linear


def test_a_rate_needs_two_lags(rng):
    ds = gradsim.simulate(Elman(2, 4), rng.standard_normal((60, 1, 2)), pairs=Pairs(lags=(0, 10, 50)))
    with pytest.raises(InputError, match=r"lags=\(20, 45\) holds 0 of the recorded lags 0, 10, 50"):
        analysis.decay_rate(ds, lags=(20, 45))


def linear(U, steps, **arguments):
    cell = Linear(hidden_size=len(U))
    params = {"U": U, "W": np.zeros((len(U), 1))}
    return gradsim.simulate(
        cell, np.zeros((steps, 2, 1)), params=params, record=["product_norm"], **arguments
    )


def orthogonal(rng, n):
    return np.linalg.qr(rng.standard_normal((n, n)))[0]


@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")
@pytest.mark.parametrize("c", [0.01, 0.9, 1.0, 30.0])
def test_scaled_orthogonal_weights_give_the_logarithm_of_the_scale(rng, c):
    found = analysis.decay_rate(linear(c * orthogonal(rng, 5), 300, pairs=Pairs(sources=(0, 60))))
    assert float(found["rate"]) == pytest.approx(math.log(c), abs=1e-12)
    assert float(found["standard_error"]) < 1e-12


@pytest.mark.parametrize("radius", [0.7, 0.98, 1.2])
def test_a_linear_cell_tends_to_the_logarithm_of_its_spectral_radius(rng, radius):
    U = rng.standard_normal((6, 6))
    U *= radius / np.abs(np.linalg.eigvals(U)).max()
    ds = linear(U, 1500, pairs=Pairs(sources=(0,)))
    errors = [
        abs(float(analysis.decay_rate(ds, lags=lags)["rate"]) - math.log(radius))
        for lags in ((1, 10), (100, 1500))
    ]
    assert errors[1] < 2e-4 < errors[0]


def covered(found, truth):
    return float(found["low"]) <= truth <= float(found["high"])


@pytest.mark.parametrize("lags", [None, (0, 15)])
def test_the_interval_covers_the_lyapunov_exponent_of_random_scalars(scalar_products, rng, lags):
    trials, truth = 300, -0.05
    ds = scalar_products(rng, 160, trials, truth, 0.3)
    hits = [covered(analysis.decay_rate(ds.isel(batch=[i]), lags=lags), truth) for i in range(trials)]
    assert 0.91 <= np.mean(hits) <= 0.985


def test_the_interval_covers_the_lyapunov_exponent_of_random_matrices(rng, make_pairs):
    """Newman (1986): products of independent Gaussian 4 x 4 matrices of variance 1/4."""
    steps, trials, n, truth = 100, 200, 4, -0.13518142
    products = np.zeros((steps + 1, trials, n, n))
    norms = np.full((steps + 1, steps + 1, trials), np.nan)
    for t in range(steps + 1):
        if t:
            products[:t] = rng.standard_normal((trials, n, n)) / 2 @ products[:t]
        products[t] = np.eye(n)
        norms[t, : t + 1] = np.log10(np.linalg.norm(products[: t + 1], axis=(-2, -1)))
    ds = make_pairs(norms)
    found = [analysis.decay_rate(ds.isel(batch=[i])) for i in range(trials)]
    assert 0.9 <= np.mean([covered(f, truth) for f in found]) <= 0.99
    whole = analysis.decay_rate(ds, lags=(20, 50))
    assert abs(float(whole["rate"]) - truth) < 4 * float(whole["standard_error"]) < 0.02


def test_a_line_through_all_pairs_would_be_far_too_sure(scalar_products, rng):
    """Why the error comes from windows: least squares over all pairs takes them for independent."""
    trials, truth, hits = 100, -0.05, 0
    ds = scalar_products(rng, 160, trials, truth, 0.3)
    for i in range(trials):
        laid_out = analysis.by_lag(ds.isel(batch=i), "product_norm_log10").sel(lag=slice(10, 40))
        lag = np.broadcast_to(laid_out["lag"].values, laid_out.shape)[laid_out.notnull().values]
        value = math.log(10) * laid_out.values[laid_out.notnull().values]
        (slope, _), cov = np.polyfit(lag, value, 1, cov=True)
        hits += abs(slope - truth) < 1.96 * math.sqrt(cov[0, 0])
    assert hits / trials < 0.5


def test_batch_elements_as_samples_cover_when_they_differ(rng, scalar_products, make_pairs):
    """Each element has a rate of its own: windows of one element then resemble each other."""
    trials, hits = 100, {"window": 0, "batch": 0}
    for _ in range(trials):
        each = scalar_products(rng, 60, 6, 0.0, 0.05)["product_norm_log10"]
        lag = each["time"] - each["source"]
        own = xr.DataArray(rng.normal(-0.1, 0.1, 6), dims="batch")
        ds = make_pairs((each + lag * own / math.log(10)).values)
        for samples in hits:
            hits[samples] += covered(analysis.decay_rate(ds, samples=samples), -0.1)
    assert hits["batch"] / trials > 0.9 > 0.75 > hits["window"] / trials


def test_one_source_is_cut_into_ranges_of_lags(scalar_products, rng):
    ds = scalar_products(rng, 400, 1, -0.1, 0.2).sel(source=[0])
    found = analysis.decay_rate(ds)
    assert int(found["samples"]) == 10
    assert abs(float(found["rate"]) + 0.1) < 4 * float(found["standard_error"])


def test_windows_share_no_step(scalar_products, rng):
    found = analysis.decay_rate(scalar_products(rng, 100, 1, 0, 1), lags=(5, 20))
    np.testing.assert_array_equal(found["anchor"], [0, 15, 30, 45, 60, 75])
    assert found["window_rate"].dims == ("window", "batch")
    assert found["rate"].attrs["units"] == "1/step"


def test_a_norm_of_zero_is_a_rate_of_minus_infinity():
    found = analysis.decay_rate(linear(np.diag([1.0, 1.0], 1), 20))
    assert float(found["rate"]) == -math.inf
    assert math.isnan(float(found["standard_error"]))


@pytest.mark.parametrize(("high", "low", "rate"), [(3, 0, math.inf), (0, 4, -math.inf), (3, 4, -math.inf)])
def test_sizes_that_left_the_range_have_an_infinite_rate(scalar_products, rng, high, low, rate):
    """Their log10, of what was stored as infinity or zero, is infinite."""
    ds = scalar_products(rng, 12, 1, 0, 1)
    lag = ds["time"] - ds["source"]
    ds = ds.where((lag != 3) | (high == 0), math.inf).where((lag != 4) | (low == 0), -math.inf)
    np.testing.assert_equal(float(analysis.decay_rate(ds, lags=(1, 5))["rate"]), rate)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"lags": (5, 5)}, "0 <= first < last <= 30"),
        ({"lags": (0, 31)}, "0 <= first < last <= 30"),
        ({"samples": "seeds"}, "samples should be 'window' or 'batch'"),
        ({"confidence": 95}, "confidence should lie between 0 and 1"),
    ],
)
def test_bad_arguments(scalar_products, rng, arguments, message):
    with pytest.raises(InputError, match=message):
        analysis.decay_rate(scalar_products(rng, 30, 1, 0, 1), **arguments)


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [(0.975, 1, 12.7062), (0.975, 2, 4.3027), (0.975, 5, 2.5706), (0.95, 10, 1.8125), (0.995, 30, 2.7500)],
)
def test_students_t(probability, degrees, value):
    assert student_t(probability, degrees) == pytest.approx(value, abs=1e-4)


def test_horizon_of_a_scaled_rotation_is_known(rng):
    ds = linear(0.9 * orthogonal(rng, 5), 80)
    found = analysis.horizon(ds, threshold=0.01)
    exact = math.log(0.01) / math.log(0.9)
    assert float(found["horizon"]) == pytest.approx(exact, rel=1e-10)
    np.testing.assert_allclose(found["horizon_by_batch"], [exact, exact], rtol=1e-10)
    assert "comment" not in found["horizon"].attrs


def test_a_horizon_beyond_the_record_is_nan_and_says_so(rng):
    found = analysis.horizon(linear(0.99 * orthogonal(rng, 5), 80), threshold=0.01)
    assert np.isnan(found["horizon"])
    assert np.isnan(found["horizon_by_batch"]).all()
    assert "within the 80 recorded lags" in found["horizon"].attrs["comment"]
    assert int(found["longest_lag"]) == 80


def test_a_dip_below_the_threshold_is_not_the_horizon(make_pairs):
    curve = np.array([0, -1, -3, -1, -3, -3, -4.0])
    time = np.arange(7)
    log10 = curve[np.maximum(time[:, None] - time, 0)][..., None]
    assert float(analysis.horizon(make_pairs(log10), threshold=0.01)["horizon"]) == 3.5
    two = np.concatenate([log10, 0 * log10], axis=-1)
    np.testing.assert_array_equal(analysis.horizon(make_pairs(two))["horizon_by_batch"], [3.5, np.nan])


@pytest.mark.parametrize("threshold", [0, -1, 2])
def test_horizon_refuses_a_threshold_out_of_range(make_pairs, threshold):
    with pytest.raises(InputError, match="threshold should be above 0"):
        analysis.horizon(make_pairs(np.zeros((3, 3, 1))), threshold)
