from __future__ import annotations

import numpy as np
import trained
import xarray as xr
from drawn import by_update, labels, lines

from gradsim import plot


def test_gradient_norm_before_and_after_clipping(training):
    ax = plot.gradient_norm_curve(training)
    before = training["train_gradient_norm"].values
    clipped = before > trained.MAX_NORM
    np.testing.assert_allclose(lines(ax, "as computed")[1], np.log10(before))
    np.testing.assert_allclose(
        lines(ax, "after mitigations")[1], np.log10(np.minimum(before, trained.MAX_NORM))
    )
    ticks, _ = lines(ax, f"changed at {100 * clipped.mean():.0f} %")
    np.testing.assert_array_equal(ticks, training["update"][clipped])
    assert ax.get_ylabel() == "Norm of the gradient"


def test_gradient_norm_that_nothing_changes_is_one_line(training):
    free = training.assign(train_gradient_factor=xr.ones_like(training["train_gradient_factor"]))
    ax = plot.gradient_norm_curve({"free": free, "clipped": training})
    assert labels(ax)[0] == "free"
    assert labels(ax)[1].startswith("clipped, changed at ")


def test_a_long_training_shows_the_median_of_the_gradient_norm():
    rng = np.random.default_rng(0)
    norms = rng.lognormal(size=3000)
    ds = by_update(train_gradient_norm=norms, train_gradient_factor=np.minimum(1, 1 / norms))
    after = lines(plot.gradient_norm_curve(ds), "after mitigations")[1]
    # Half of all norms are above 1, to which they are clipped.
    assert np.abs(after).max() < 0.2
    exact = lines(plot.gradient_norm_curve(ds, smooth=1), "after mitigations")[1]
    np.testing.assert_allclose(exact, np.minimum(0, np.log10(norms)), atol=1e-12)


def test_gradient_norm_by_parameter(training):
    ax = plot.gradient_norm_by_param(training, smooth=1)
    for name in training["param"].values:
        expected = np.log10(training["train_gradient_norm_by_param"].sel(param=name))
        np.testing.assert_allclose(lines(ax, name)[1], expected)
    assert labels(ax) == ["W", "U", "b", "readout_W", "readout_b"]
