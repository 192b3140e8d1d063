from __future__ import annotations

import numpy as np
import xarray as xr
from drawn import by_update, labels, lines

from gradsim import analysis, plot


def test_loss_of_one_training(training):
    ax = plot.loss_curve(training, smooth=5)
    update, train = lines(ax, "training")
    np.testing.assert_array_equal(update, training["update"])
    median = analysis.smoothed(np.log10(training["train_loss"]), 5)
    np.testing.assert_allclose(train, median)
    np.testing.assert_allclose(ax.lines[0].get_ydata(), np.log10(training["train_loss"]))
    update, validation = lines(ax, "validation")
    np.testing.assert_array_equal(update, [0, 8, 16, 24])
    np.testing.assert_allclose(validation, np.log10(training["validation_loss"]))
    np.testing.assert_allclose(lines(ax, "baseline: mean")[1], np.log10(1 / 24))
    assert labels(ax) == ["training", "validation", "baseline: mean"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Update", "Loss")


def test_the_axis_of_the_loss_is_logarithmic_beyond_a_decade():
    narrow, wide = by_update(train_loss=[1, 2, 9]), by_update(train_loss=[1, 2, 11])
    np.testing.assert_array_equal(lines(plot.loss_curve(narrow), "training")[1], [1, 2, 9])
    np.testing.assert_allclose(lines(plot.loss_curve(wide), "training")[1], np.log10([1, 2, 11]))
    np.testing.assert_array_equal(lines(plot.loss_curve(wide, log_y=False), "training")[1], [1, 2, 11])
    negative = by_update(train_loss=[-5, 1, 200])
    np.testing.assert_array_equal(lines(plot.loss_curve(negative), "training")[1], [-5, 1, 200])


def test_losses_of_several_runs_and_their_unit(training):
    nats = training.assign(train_loss=training["train_loss"].assign_attrs(units="nats"))
    ax = plot.loss_curve({"a": nats, "b": nats.drop_vars("validation_loss")}, log_x=True)
    assert labels(ax) == ["a", "b", "validation", "baseline: mean"]
    assert (ax.get_ylabel(), ax.get_xscale()) == ("Loss (nats)", "log")
    ax.figure.draw_without_rendering()


def test_a_training_without_watch_still_has_its_validation(training):
    assert labels(plot.loss_curve(training[["validation_loss"]])) == ["validation", "baseline: mean"]


def test_score_and_its_baseline(training):
    ax = plot.score_curve(training)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), training["validation_score"])
    np.testing.assert_array_equal(lines(ax, "baseline: mean")[1], 0.12)
    assert ax.get_ylabel() == "Solved within 0.04"
    assert labels(plot.score_curve({"a": training, "b": training})) == ["a", "b", "baseline: mean"]


def test_spectral_radius_connects_what_was_computed(training):
    ax = plot.spectral_radius_curve(training)
    update, radius = lines(ax, "U")
    np.testing.assert_array_equal(update, [5, 10, 15, 20])
    np.testing.assert_array_equal(radius, training["spectral_radius"].dropna("update")[:, 0])
    assert ax.lines[-1].get_ydata() == [1, 1]
    assert ax.get_legend() is None
    two = xr.concat([training["spectral_radius"], 100 * training["spectral_radius"]], "weight_block")
    ds = two.assign_coords(weight_block=["W", "V"]).to_dataset()
    ax = plot.spectral_radius_curve({"run": ds})
    assert labels(ax) == ["run, W", "run, V"]
    np.testing.assert_allclose(lines(ax, "run, V")[1], np.log10(100 * radius))
    assert ax.lines[-1].get_ydata() == [0, 0]
