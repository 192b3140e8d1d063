from __future__ import annotations

import numpy as np
import pytest
from drawn import by_update, lines

from gradsim import plot
from gradsim.errors import InputError


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
