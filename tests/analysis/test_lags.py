from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs, analysis
from gradsim.errors import InputError
from gradsim_cells import Elman, Linear
from gradsim_mitigations import Truncate


def test_analysis_of_chosen_lags(rng):
    """Of a scaled rotation every gain is a power, so every analysis has a closed form."""
    q, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    params = {"U": 0.9 * q, "W": np.zeros((4, 1))}
    pairs = Pairs(lags=(0, 10, 30, 50))
    ds = gradsim.simulate(Linear(1, 4), np.zeros((200, 2, 1)), params=params, pairs=pairs)
    exact = np.array([0, 10, 30, 50]) * np.log10(0.9)
    summary = analysis.gain_by_lag(ds)
    np.testing.assert_allclose(summary["median"], exact, rtol=1e-10, atol=1e-15)
    assert summary["count"].values.tolist() == [402, 382, 342, 302]
    assert analysis.by_lag(ds).lag.values.tolist() == [0, 10, 30, 50]
    assert analysis.decay_rate(ds).rate.item() == pytest.approx(np.log(0.9), rel=1e-10)
    one = ds.isel(source=[0])
    assert analysis.decay_rate(one, lags=(10, 50)).rate.item() == pytest.approx(np.log(0.9), rel=1e-10)
    horizon = analysis.horizon(ds, 0.1).horizon.item()
    assert horizon == pytest.approx(np.log(0.1) / np.log(0.9), rel=1e-10)


def simulate(inputs, **arguments):
    return gradsim.simulate(Elman(input_size=2, hidden_size=4), inputs, **arguments)


@pytest.mark.parametrize(
    "pairs",
    [Pairs(max_lag=12), Pairs(max_lag=5), Pairs(times=(3, 9)), Pairs(times=(-1,)), Pairs(sources=(2, 7))],
)
def test_every_layout_gives_the_same_number_for_the_same_pair(inputs, pairs):
    full = simulate(inputs)["product_norm"]
    other = simulate(inputs, pairs=pairs)
    laid_out = analysis.by_lag(other, "product_norm")
    anchor = laid_out.dims[0]
    assert laid_out.dims == (anchor, "lag", "batch")
    seen = 0
    for a in laid_out[anchor].values:
        for lag in laid_out["lag"].values:
            t, k = (a + lag, a) if anchor == "source" else (a, a - lag)
            value = laid_out.sel({anchor: a, "lag": lag})
            if 0 <= k <= t <= 12:
                np.testing.assert_allclose(value, full.sel(time=t, source=k), rtol=1e-12)
                seen += 1
            else:
                assert value.isnull().all()
    assert seen == laid_out.isel(batch=0).notnull().sum()


def test_works_on_one_batch_element_and_on_further_dims(inputs):
    ds = simulate(inputs, record=["product_norm", "product_spectrum"])
    assert analysis.by_lag(ds.isel(batch=1)).dims == ("source", "lag")
    spectrum = analysis.by_lag(ds, "product_spectrum")
    assert spectrum.dims == ("source", "lag", "batch", "mode")
    expected = ds["product_spectrum"].sel(time=9, source=4)
    np.testing.assert_array_equal(spectrum.sel(source=4, lag=5), expected)


def test_works_on_a_saved_run(inputs, tmp_path):
    simulate(inputs, store=tmp_path / "run")
    saved, fresh = gradsim.open_run(tmp_path / "run"), simulate(inputs)
    xr.testing.assert_equal(analysis.gain_by_lag(saved), analysis.gain_by_lag(fresh))


def test_labels(inputs):
    laid_out = analysis.by_lag(simulate(inputs))
    assert laid_out["lag"].attrs == {"long_name": "lag t - k", "units": "step"}
    assert laid_out.attrs["long_name"] == "RMS gain of ds_t/ds_k"
    for variable in analysis.gain_by_lag(simulate(inputs)).variables.values():
        assert {"long_name", "units"} <= set(variable.attrs) or variable.dims == ("quantile",)


def test_median_and_quantiles_are_those_of_all_sources_and_batch_elements(inputs):
    ds = simulate(inputs)
    found = analysis.gain_by_lag(ds, quantiles=(0.25, 0.75))
    gains = [np.diagonal(ds["product_norm"] / 2, -lag, 0, 1).ravel() for lag in range(13)]
    np.testing.assert_array_equal(found["count"], [len(n) for n in gains])
    np.testing.assert_allclose(found["median"], [np.median(np.log10(n)) for n in gains], atol=1e-14)
    expected = np.array([np.quantile(np.log10(n), [0.25, 0.75]) for n in gains]).T
    np.testing.assert_allclose(found["quantiles"], expected, atol=1e-14)


def test_holds_what_float64_cannot(make_pairs):
    time = np.arange(50.0)
    ds = make_pairs(-20 * (time[:, None] - time)[..., None])
    np.testing.assert_allclose(analysis.gain_by_lag(ds)["median"], -20 * time)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_an_exact_zero_is_minus_infinity_and_not_a_gap(make_pairs, dtype):
    log10 = np.zeros((6, 6, 3))
    log10[..., :2] = -np.inf
    found = analysis.gain_by_lag(make_pairs(log10).astype(dtype), quantiles=(0, 1))
    assert (found["median"] == -np.inf).all()
    assert (found["quantiles"].sel(quantile=1) == 0).all()
    assert (found["count"] == [18, 15, 12, 9, 6, 3]).all()


def test_infinity_is_no_gap_either(make_pairs):
    log10 = np.zeros((6, 6, 3))
    log10[..., 0], log10[..., 1] = -np.inf, np.inf
    found = analysis.gain_by_lag(make_pairs(log10), quantiles=(0, 0.25, 1))
    assert (found["median"] == 0).all()
    np.testing.assert_array_equal(found["quantiles"][:, -1], [-np.inf, -np.inf, np.inf])


def test_effective_twins(inputs):
    ds = simulate(inputs, mitigations=[Truncate(k1=3, k2=3)], record=["effective_product_norm"])
    found = analysis.gain_by_lag(ds, "effective_gain")
    assert found.attrs["variable_long_name"] == "effective RMS gain of ds_t/ds_k"
    assert np.isneginf(found["median"].sel(lag=slice(3, None))).all()


def test_a_variable_without_pairs_is_refused(inputs):
    with pytest.raises(InputError, match=r"adjoint_norm_log10 has dims .* pairs"):
        analysis.gain_by_lag(simulate(inputs), "adjoint_norm")
    with pytest.raises(InputError, match=r"quantiles should lie in 0..1"):
        analysis.gain_by_lag(simulate(inputs), quantiles=(10, 90))
