from __future__ import annotations

import numpy as np
import pytest
from matplotlib.colors import to_rgba

import gradsim
from gradsim import plot
from gradsim.errors import InputError
from gradsim.plot.colours import diverging
from gradsim_cells.elman import Elman


def colours(ax):
    """The colours of the cells, (time, source, rgba)."""
    return ax.collections[0].get_array()


def labels(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_colours_are_those_of_the_gains(run):
    limits = plot.heat_limits(run)
    shown = colours(plot.gain_heat_map(run, limits=limits))
    value = float(run["product_norm_log10"].sel(time=12, source=4)[0]) - np.log10(2)  # of 4 components
    expected = diverging()((value + abs(limits[0])) / (2 * abs(limits[0])))
    np.testing.assert_allclose(shown[12, 4], expected, atol=1e-3)


def test_zero_undefined_and_not_computed_differ(run, band):
    effective = plot.gain_heat_map(run, variable="effective_gain")
    shown = colours(effective)
    assert tuple(shown[18, 2]) == to_rgba("black")
    assert tuple(shown[2, 18]) == to_rgba("white")
    assert labels(effective) == ["exactly 0", "no product ($t < k$)"]
    banded = plot.gain_heat_map(band)
    assert colours(banded)[18, 2][3] == 0
    assert any(patch.get_hatch() for patch in banded.patches)
    assert labels(banded) == ["not computed", "no product ($t < k$)"]
    assert not any(patch.get_hatch() for patch in effective.patches)


def test_a_lag_band_shows_the_same_colours_as_all_pairs(run, band):
    limits = (-3.0, 1.0)
    full, banded = (colours(plot.gain_heat_map(ds, limits=limits)) for ds in (run, band))
    lag = np.subtract.outer(np.arange(21), np.arange(21))
    inside = (lag >= 0) & (lag <= 6)
    np.testing.assert_array_equal(full[inside], banded[inside])


def test_chosen_lags_show_the_same_colours_as_all_pairs(run):
    inputs = np.random.default_rng(3).standard_normal((20, 3, 2))
    cell, lags = Elman(input_size=2, hidden_size=4, recurrent_scale=0.8), (2, 5, 15)
    chosen = gradsim.simulate(cell, inputs, pairs=gradsim.Pairs(lags=lags))
    limits = (-3.0, 1.0)
    full, shown = (colours(plot.gain_heat_map(ds, limits=limits)) for ds in (run, chosen))
    lag = np.subtract.outer(np.arange(20), np.arange(21))
    full, shown, there = full[:20], shown[:20], np.isin(lag, lags)
    np.testing.assert_array_equal(full[there], shown[there])
    assert (shown[(lag > 0) & ~there][..., 3] == 0).all()


def test_grey_means_one_whatever_the_limits(run):
    for limits in ((-3.0, 1.0), (-0.5, 40.0)):
        bar = plot.gain_heat_map(run, limits=limits).figure.axes[1]
        assert bar.get_ylim() == limits
    np.testing.assert_allclose(diverging()(0.5)[:3], to_rgba("#eeeeee")[:3], atol=0.02)


def test_labels_and_units(run):
    ax = plot.gain_heat_map(run)
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("Source $k$ (step)", "Time $t$ (step)")
    assert ax.figure.axes[1].get_ylabel() == r"RMS gain of $\partial s_t/\partial s_k$"


def test_chosen_times_and_one_batch_element():
    inputs = np.zeros((30, 2, 1))
    ds = gradsim.simulate(Elman(hidden_size=3), inputs, pairs=gradsim.Pairs(times=(10, 20, 30)))
    ax = plot.gain_heat_map(ds.isel(batch=0))
    assert ax.get_ylim() == (5, 35)


def test_a_long_record_is_thinned():
    ds = gradsim.simulate(Elman(hidden_size=1), np.zeros((1300, 1, 1)), pairs=gradsim.Pairs(max_lag=3))
    assert colours(plot.gain_heat_map(ds)).shape == (651, 651, 4)


def test_bad_requests(run):
    with pytest.raises(InputError, match=r"batch should be below 3 \(got 3\)"):
        plot.gain_heat_map(run, batch=3)
    with pytest.raises(InputError, match="one value for each pair"):
        plot.gain_heat_map(run, variable="adjoint_norm")
    with pytest.raises(InputError, match="add the recorder 'product_spectral_norm'"):
        plot.gain_heat_map(run, variable="product_spectral_norm")
