from __future__ import annotations

import statistics

import numpy as np
import pytest
import trained
import xarray as xr

import gradsim
from gradsim import analysis
from gradsim.errors import InputError
from gradsim_cells.linear import Linear


@pytest.fixture(scope="module")
def training():
    return trained.training(updates=16, every=8)


def by_update(values, dim="update", name="train_loss"):
    values = np.asarray(values, dtype=float)
    return xr.DataArray(values, {dim: np.arange(1, len(values) + 1)}, (dim,), name)


@pytest.fixture(scope="module")
def scaled():
    """Probes of linear cells U = c Q with Q orthogonal: ||P(t, k)||_F = sqrt(3) c^(t - k)."""
    Q = np.linalg.qr(np.random.default_rng(0).standard_normal((3, 3)))[0]
    scales, probes = [0.1, 0.5, 1.2], []
    for c in scales:
        params = {"U": c * Q, "W": np.zeros((3, 1))}
        record = ["product_norm"]
        probes.append(
            gradsim.simulate(Linear(hidden_size=3), np.zeros((30, 2, 1)), params=params, record=record)
        )
    ds = xr.concat(probes, xr.Variable("probe_update", [0, 10, 20]), combine_attrs="drop_conflicts")
    return ds, np.array(scales)


def test_a_probe_is_the_nearest_one_without_the_rest(training):
    found = analysis.probe(training, 9)
    assert int(found["probe_update"]) == 8
    assert found.attrs == training.attrs
    np.testing.assert_array_equal(found["product_norm"], training["product_norm"][1])
    assert set(found) == {
        "product_norm",
        "product_norm_log10",
        "adjoint_norm",
        "adjoint_norm_log10",
        "lyapunov",
    }


def test_only_probes_that_were_made_count(training):
    partial = trained.until(training, 9)
    assert int(analysis.probe(partial, 16)["probe_update"]) == 8
    assert analysis.over_probes(partial, analysis.horizon)["probe_update"].values.tolist() == [0, 8]
    with pytest.raises(InputError, match="none of the 3 probes has been made"):
        analysis.probe(trained.until(training, -1), 0)


def test_without_probes_the_error_says_what_to_record(training):
    with pytest.raises(InputError, match=r'no probes: .*"recorders": \["product_norm"\].* It has train_loss'):
        analysis.probe(training[["train_loss"]], 3)


def test_every_analysis_works_on_a_probe(scaled):
    first = analysis.probe(scaled[0], 1)
    assert float(analysis.decay_rate(first)["rate"]) == pytest.approx(np.log(0.1))
    assert float(analysis.horizon(first, threshold=1e-3)["horizon"]) == pytest.approx(3)
    assert analysis.gain_by_lag(first)["median"].values[4] == pytest.approx(-4)
    assert analysis.by_lag(first).dims == ("source", "lag", "batch")


def test_over_probes_gives_the_closed_form_of_each(scaled):
    ds, scales = scaled
    rates = analysis.over_probes(ds, analysis.decay_rate)
    assert rates["rate"].dims == ("probe_update",)
    assert rates["probe_update"].values.tolist() == [0, 10, 20]
    np.testing.assert_allclose(rates["rate"], np.log(scales))
    horizon = analysis.over_probes(ds, lambda probe: analysis.horizon(probe, threshold=0.011)["horizon"])
    np.testing.assert_allclose(horizon[:2], np.log(0.011) / np.log(scales[:2]))
    assert np.isnan(horizon[2])


@pytest.mark.parametrize("over", [1, 3, 7, 41])
def test_the_running_median_is_the_median_of_the_neighbours(rng, over):
    values = rng.standard_normal(30)
    values[[4, 20]] = np.nan, np.inf
    found = analysis.smoothed(by_update(values), over)
    for i, value in enumerate(values):
        near = values[max(0, i - over // 2) : i + over // 2 + 1]
        if np.isnan(value):
            assert np.isnan(found[i])
        else:
            assert float(found[i]) == statistics.median(near[~np.isnan(near)])


def test_the_exponential_mean_of_a_step():
    """With weights r^j of all values so far, a step from 0 to 1 after two zeros gives (1 - r) / (1 - r^3)."""
    found = analysis.smoothed(by_update([0, 0, 1, np.nan, 1]), 3, kind="exponential")
    r = 1 / 2
    last = (r**2 + 1) / (r**4 + r**3 + r**2 + 1)
    np.testing.assert_allclose(found, [0, 0, (1 - r) / (1 - r**3), np.nan, last])


@pytest.mark.parametrize("kind", ["median", "exponential"])
def test_what_is_constant_stays_and_labels_tell(kind):
    values = by_update([2.5] * 9).expand_dims(param=["U", "b"]).assign_attrs(long_name="loss", units="nats")
    found = analysis.smoothed(values, 5, kind=kind)
    np.testing.assert_allclose(found, 2.5)
    assert found.dims == ("param", "update")
    assert found.attrs["units"] == "nats"
    assert found.attrs["long_name"].endswith(f"{kind}{' mean' * (kind != 'median')} of the loss")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"over": 4}, r"odd number from 1 \(got 4\)"),
        ({"over": 1, "kind": "exponential"}, r"2 or more \(got 1\)"),
        ({"kind": "mean"}, "'median' or 'exponential'"),
    ],
)
def test_bad_smoothing(arguments, message):
    with pytest.raises(InputError, match=message):
        analysis.smoothed(by_update([1, 2]), **arguments)


def test_smoothing_needs_updates():
    with pytest.raises(InputError, match="exactly one of update, validation_update, probe_update"):
        analysis.smoothed(by_update([1, 2], dim="time"))


def test_updates_until_a_level():
    loss = by_update([3, np.nan, 0.5, 2, 0.1])
    assert float(analysis.updates_until(loss, below=1)) == 3
    assert np.isnan(analysis.updates_until(loss, below=0.1))
    score = by_update([0, 0.5, 1], dim="validation_update", name="score")
    found = analysis.updates_until(score, above=0.4)
    assert (float(found), found.attrs["units"]) == (2, "update")
    assert found.attrs["long_name"] == "first update with score above 0.4"


def test_updates_until_keeps_other_dims():
    runs = xr.concat([by_update([1, 0, 0]), by_update([1, 1, 1])], "replicate")
    found = analysis.updates_until(runs, below=0.5)
    assert found.dims == ("replicate",)
    np.testing.assert_array_equal(found, [2, np.nan])


@pytest.mark.parametrize("levels", [{}, {"below": 1, "above": 2}])
def test_updates_until_needs_one_level(levels):
    with pytest.raises(InputError, match="give below= or above="):
        analysis.updates_until(by_update([1]), **levels)
