from __future__ import annotations

import numpy as np
import pytest
import trained
import xarray as xr
from matplotlib.colors import to_rgba

from gradsim import analysis, plot
from gradsim.errors import InputError


def lines(ax, label):
    """(x, y) of the line with this label."""
    (line,) = (line for line in ax.lines if line.get_label() == label)
    return np.asarray(line.get_xdata()), np.ma.filled(np.ma.masked_invalid(line.get_ydata()), np.nan)


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def by_update(**variables):
    """A training of these values at every update."""
    values = {n: ("update", np.asarray(v, dtype=float)) for n, v in variables.items()}
    count = len(next(iter(variables.values())))
    return xr.Dataset(values, {"update": np.arange(1, count + 1)})


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


@pytest.mark.parametrize("size", [1e-300, 1e300])
def test_extreme_losses_and_gradients(size):
    ds = by_update(train_loss=[1, size], train_gradient_norm=[1, size], train_gradient_factor=[1, 1])
    for ax in (plot.loss_curve(ds), plot.gradient_norm_curve(ds)):
        np.testing.assert_allclose(ax.lines[0].get_ydata(), [0, np.log10(size)])
        ax.figure.draw_without_rendering()


def test_zero_infinite_and_missing_differ():
    norms = [1, 0, 2, np.nan, 3, np.inf, 4]
    ax = plot.gradient_norm_curve(by_update(train_gradient_norm=norms, train_gradient_factor=np.ones(7)))
    (zero, low), (infinite, high) = lines(ax, "exactly 0"), lines(ax, "infinite")
    assert (zero.tolist(), infinite.tolist()) == ([2], [6])
    assert low < 0.1 < 0.9 < high
    np.testing.assert_array_equal(np.isnan(ax.lines[0].get_ydata()), [0, 1, 0, 1, 0, 1, 0])


def test_a_value_without_neighbours_is_a_dot():
    ds = by_update(train_loss=[1, 1, np.nan, 2, np.nan, 1])
    dots = [line for line in plot.loss_curve(ds).lines if line.get_marker() == "."]
    assert [(line.get_xdata().tolist(), line.get_ydata().tolist()) for line in dots] == [([4, 6], [2, 1])]


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


def test_score_and_its_baseline(training):
    ax = plot.score_curve(training)
    np.testing.assert_array_equal(ax.lines[0].get_ydata(), training["validation_score"])
    np.testing.assert_array_equal(lines(ax, "baseline: mean")[1], 0.12)
    assert ax.get_ylabel() == "Solved within 0.04"
    assert labels(plot.score_curve({"a": training, "b": training})) == ["a", "b", "baseline: mean"]


def test_spectral_radius_connects_what_was_computed(training):
    ax = plot.spectral_radius_curve(training)
    update, radius = lines(ax, "W")
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


@pytest.mark.parametrize(
    "draw", [plot.loss_curve, plot.gradient_norm_curve, plot.score_curve, plot.spectral_radius_curve]
)
def test_given_axes_are_used_and_no_run_is_an_error(training, draw):
    ax = plot.new_figure().add_subplot()
    assert draw(training, ax, legend=False) is ax
    assert ax.get_legend() is None
    with pytest.raises(InputError, match="there is no run to draw"):
        draw({})


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (plot.loss_curve, "no train_loss: train with watch=True"),
        (plot.gradient_norm_curve, "no train_gradient_norm: train with watch=True"),
        (plot.gradient_norm_by_param, "no train_gradient_norm_by_param"),
        (plot.score_curve, "no validation_score: train on a task with a metric"),
        (plot.spectral_radius_curve, "no spectral_radius: train a cell with recurrent weights"),
        (plot.adjoint_over_updates, "no train_adjoint_norm"),
        (plot.training_overview, "no train_loss"),
    ],
)
def test_what_is_missing_and_how_to_get_it(training, draw, message):
    with pytest.raises(InputError, match=message):
        draw(training[["learning_rate"]])


def test_one_update_only(training):
    one = training.isel(update=[0], validation_update=[0], probe_update=[0])
    for draw in (plot.loss_curve, plot.gradient_norm_curve, plot.gradient_norm_by_param, plot.score_curve):
        draw(one).figure.draw_without_rendering()
    plot.adjoint_over_updates(one).figure.draw_without_rendering()
    plot.training_overview(one).draw_without_rendering()


# On one page.


def cells(ax):
    """The colours of the heat map (lag, update, rgba)."""
    return ax.collections[0].get_array()


def test_adjoint_over_updates(training):
    ax = plot.adjoint_over_updates(training)
    relative = training["train_adjoint_norm_log10"] - training["train_adjoint_norm_log10"][:, 0]
    least = float(relative.min())
    assert ax.figure.axes[1].get_ylim()[0] == pytest.approx(least)
    row, column = np.argwhere(least == relative.values.T)[0]
    np.testing.assert_allclose(cells(ax)[row, column], to_rgba("#101f55"), atol=0.01)
    ax.figure.draw_without_rendering()
    shown = [text.get_text() for text in ax.get_yticklabels() if text.get_text()]
    assert shown == [str(lag) for lag in trained.TRAIN_LAGS]
    horizon = training["train_horizon"]
    rows = [list(trained.TRAIN_LAGS).index(h) if h == h else np.nan for h in horizon.values]
    np.testing.assert_array_equal(lines(ax, "horizon")[1], rows)


def test_an_adjoint_of_zero_is_black_and_a_missing_one_hatched(training):
    values = training["train_adjoint_norm_log10"].copy()
    values[3:, 2], values[5:] = -np.inf, np.nan
    ax = plot.adjoint_over_updates(training.assign(train_adjoint_norm_log10=values))
    assert tuple(cells(ax)[2, 3]) == to_rgba("black")
    assert (cells(ax)[:, 5:, 3] == 0).all()
    assert any(patch.get_hatch() for patch in ax.patches)
    assert labels(ax) == ["exactly 0", "not computed", "horizon"]


def test_overview_of_a_training_that_goes_on(training):
    figure = plot.training_overview(trained.until(training, 10))
    names = [ax.get_ylabel() for ax in figure.axes]
    assert names[:3] == ["Loss", "Solved within 0.04", "Norm of the gradient"]
    assert names[3] == "Lag before the last loss (step)"
    assert figure.get_suptitle() == "elman, adding, sgd: update 10 of 24"
    assert all(ax.get_xlim()[1] >= 24 for ax in figure.axes[:4])
    np.testing.assert_array_equal(np.isfinite(figure.axes[2].lines[0].get_ydata()), np.arange(1, 25) <= 10)
    figure.draw_without_rendering()


def test_overview_before_the_first_update_and_without_extras(training):
    start = plot.training_overview(trained.until(training, 0))
    assert start.get_suptitle().endswith("update 0 of 24")
    start.draw_without_rendering()
    bare = plot.training_overview(training[["train_loss"]])
    assert [ax.get_ylabel() for ax in bare.axes] == ["Loss"]
