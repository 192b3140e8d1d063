from __future__ import annotations

import numpy as np
import pytest
import trained
from drawn import labels, lines
from matplotlib.colors import to_rgba

from gradsim import plot


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
