"""Figures of the probes of a training, and the film."""

from __future__ import annotations

import numpy as np
import pytest
import trained

from gradsim import analysis, plot
from gradsim.errors import InputError


def cells(ax):
    return ax.collections[0].get_array()


def key(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def shifted(training, decades):
    """The same probes, with gains that far beyond the range of float64 (only their log10 is left)."""
    log10 = training["product_norm_log10"] + decades * (training["product_norm_log10"]["probe_update"] / 24)
    return training.drop_vars("product_norm").assign(product_norm_log10=log10)


def test_gain_by_lag_has_a_line_a_probe(training):
    ax = plot.gain_by_lag_over_updates(training)
    for line, update in zip(ax.lines, [0, 8, 16, 24], strict=False):
        expected = analysis.gain_by_lag(analysis.probe(training, update))["median"]
        np.testing.assert_array_equal(line.get_ydata(), expected)
    assert (ax.get_xlabel(), ax.get_ylabel()) == (
        "Lag $t - k$ (step)",
        r"RMS gain of $\partial s_t/\partial s_k$",
    )
    bar = ax.figure.axes[1]
    assert (bar.get_ylabel(), bar.get_ylim()) == ("Update", (0, 24))
    lightness = [np.dot(line.get_color()[:3], (0.2126, 0.7152, 0.0722)) for line in ax.lines[:4]]
    assert np.all(np.diff(lightness) > 0)


def test_lyapunov_exponents_are_means_over_the_batch(training):
    ax = plot.lyapunov_over_updates(training, modes=2)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["mode 1", "mode 2"]
    for mode in range(2):
        np.testing.assert_array_equal(ax.lines[mode].get_xdata(), [0, 8, 16, 24])
        np.testing.assert_allclose(ax.lines[mode].get_ydata(), training["lyapunov"][..., mode].mean("batch"))
        heights = ax.collections[mode].get_paths()[0].vertices[:, 1]
        assert heights.max() == training["lyapunov"][..., mode].max()
    assert ax.get_ylabel() == "Finite-time Lyapunov exponent (1/step)"


def test_heat_maps_share_one_scale(training):
    figure = plot.gain_heat_maps(training, count=3)
    titles = [ax.get_title(loc="left") for ax in figure.axes[:3]]
    assert titles == ["Update 0", "Update 16", "Update 24"]
    chosen = [analysis.probe(training, u) for u in (0, 16, 24)]
    limits = plot.heat_limits(*chosen)
    assert figure.axes[-1].get_ylim() == limits
    for ax, probe in zip(figure.axes, chosen, strict=False):
        alone = plot.gain_heat_map(probe, limits=limits)
        np.testing.assert_array_equal(cells(ax), cells(alone))
    assert key(figure) == ["no product ($t < k$)"]


def test_zero_missing_and_no_product_differ_in_the_heat_maps(training):
    log10 = training["product_norm_log10"].copy()
    log10[1, 10, 2], log10[2, 10, 2] = -np.inf, np.nan
    figure = plot.gain_heat_maps(training.assign(product_norm_log10=log10))
    looks = [tuple(cells(ax)[10, 2]) for ax in figure.axes[1:3]]
    assert looks == [(0, 0, 0, 1), (1, 1, 1, 0)]
    assert set(key(figure)) == {"exactly 0", "not computed", "no product ($t < k$)"}


@pytest.mark.parametrize("decades", [-2000, 2000])
def test_probes_beyond_the_range_of_float64(training, decades):
    ds = shifted(training, decades)
    low_high = plot.gain_heat_maps(ds).axes[-1].get_ylim()
    assert max(map(abs, low_high)) > 1990
    ax = plot.gain_by_lag_over_updates(ds)
    assert np.abs(ax.lines[3].get_ydata()).min() > 1990
    ax.figure.draw_without_rendering()


def test_only_probes_that_were_made_are_drawn(training):
    partial = trained.until(training, 9)
    assert len(plot.gain_by_lag_over_updates(partial).lines) == 2 + 1
    assert plot.lyapunov_over_updates(partial).lines[0].get_xdata().tolist() == [0, 8]
    assert len(plot.gain_heat_maps(partial).axes) == 2 + 1


def test_one_probe(training):
    one = training.isel(probe_update=[0])
    for figure in (
        plot.gain_by_lag_over_updates(one).figure,
        plot.lyapunov_over_updates(one).figure,
        plot.gain_heat_maps(one),
    ):
        figure.draw_without_rendering()


@pytest.mark.parametrize(
    "draw",
    [
        plot.gain_by_lag_over_updates,
        plot.lyapunov_over_updates,
        plot.gain_heat_maps,
        lambda ds: plot.animate_gain_heat_map(ds, "never.gif"),
    ],
)
def test_without_probes_the_error_says_what_to_record(training, draw):
    with pytest.raises(InputError, match=r'no probes: .*"recorders": \["product_norm"\]'):
        draw(training[["train_loss"]])
    with pytest.raises(InputError, match="add the recorder"):
        draw(training[["adjoint_norm"]])
    with pytest.raises(InputError, match=r"count should be 1 or more \(got 0\)"):
        plot.gain_heat_maps(training, count=0)
