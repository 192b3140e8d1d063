from __future__ import annotations

import numpy as np
import pytest

from gradsim import analysis, compare, plot, simulate
from gradsim.errors import InputError
from gradsim_cells import Linear


def curve(ax, i=0):
    return ax.lines[i].get_xdata(), np.ma.filled(np.ma.masked_invalid(ax.lines[i].get_ydata()), np.nan)


def test_gain_by_lag_shows_what_the_analysis_says(run):
    ax = plot.gain_by_lag({"a": run, "b": run})
    lag, median = curve(ax)
    np.testing.assert_array_equal(lag, np.arange(21))
    np.testing.assert_array_equal(median, analysis.gain_by_lag(run)["median"])
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    assert ax.get_xlabel() == "Lag $t - k$ (step)"
    assert ax.get_ylabel() == r"RMS gain of $\partial s_t/\partial s_k$"


def test_the_effective_gain_is_dashed_beside_the_raw_one(run):
    ax = plot.gain_by_lag({"a": run, "b": run}, effective=True)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [
        *("a", "a, effective"),
        *("b", "b, effective"),
    ]
    median = analysis.gain_by_lag(run, "effective_gain")["median"].values
    np.testing.assert_array_equal(curve(ax, 1)[1], np.where(np.isfinite(median), median, np.nan))


def test_lines_of_different_quantities_share_the_label_that_is_true_of_all(run):
    other = analysis.gain_by_lag(run).assign_attrs(variable_long_name="RMS gain of dh_t/dc_k")
    assert plot.gain_by_lag({"all": run, "h": other}).get_ylabel() == "RMS gain"


def test_a_summary_draws_the_same_lines(run):
    whole, summary = plot.gain_by_lag(run), plot.gain_by_lag({"": analysis.gain_by_lag(run)})
    np.testing.assert_array_equal(curve(whole), curve(summary))


def test_a_comparison_has_a_line_for_each_cell_over_all_seeds():
    cells = {"a": Linear(1, 2), "b": Linear(1, 3)}
    ds = compare(cells, inputs=np.zeros((9, 1, 1)), seeds=4, record=["product_norm"])
    ax = plot.gain_by_lag(ds)
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["a", "b"]
    for i, label in enumerate(cells):
        one = [simulate(cells[label], np.zeros((9, 1, 1)), rng=s, record=["product_norm"]) for s in range(4)]
        log10 = [analysis.gain(x).gain_log10.isel(batch=0) for x in one]
        np.testing.assert_allclose(curve(ax, i)[1][8], np.median([x.sel(time=8, source=0) for x in log10]))


def test_lines_differ_without_colour(run):
    ax = plot.gain_by_lag({str(i): run for i in range(7)})
    looks = {(str(line.get_linestyle()), line.get_marker()) for line in ax.lines[:7]}
    assert len(looks) == 7


def test_a_gain_that_falls_to_zero_does_not_stretch_the_axis(run):
    ax = plot.gain_by_lag(run, variable="effective_gain")
    assert ax.get_ylim()[0] > -10
    assert [text.get_text() for text in ax.texts] == ["0"]
    assert np.isnan(curve(ax)[1][-1])


def test_adjoint_before_and_after(run):
    ax = plot.adjoint(run)
    names = [text.get_text() for text in ax.get_legend().get_texts()]
    assert names == ["raw", "effective (truncate)"]
    np.testing.assert_array_equal(curve(ax)[1], run["adjoint_norm_log10"].median("batch"))
    assert ax.get_ylabel() == r"Norm of the adjoint $\partial L/\partial s_t$"
    assert ax.get_xlabel() == "Time $t$ (step)"


def test_adjoint_of_several_runs_draws_raw_once(run):
    ax = plot.adjoint({"one": run, "two": run})
    assert [text.get_text() for text in ax.get_legend().get_texts()] == ["raw", "one", "two"]


def test_adjoint_of_a_raw_run_needs_no_key(run):
    ax = plot.adjoint(run[["adjoint_norm", "adjoint_norm_log10"]])
    assert ax.get_legend() is None


def test_singular_values_of_one_source(run):
    ax = plot.singular_value_fan(run, source=5)
    time, largest = curve(ax)
    expected = run["product_spectrum_log10"].sel(source=5).isel(batch=0, mode=0)
    np.testing.assert_array_equal(time, np.arange(21))
    np.testing.assert_array_equal(largest, expected)
    assert ax.get_ylabel() == r"Singular value of $\partial s_t/\partial s_{5}$"
    with pytest.raises(InputError, match="source should be one of"):
        plot.singular_value_fan(run, source=99)


def test_lyapunov_has_its_unit(run):
    assert plot.lyapunov(run).get_ylabel() == "Finite-time Lyapunov exponent (1/step)"


@pytest.mark.parametrize("draw", [plot.gain_by_lag, plot.adjoint, plot.singular_value_fan, plot.lyapunov])
def test_a_missing_variable_names_its_recorder(run, draw):
    with pytest.raises(InputError, match="add the recorder"):
        draw(run[[]])


def test_nothing_to_draw():
    with pytest.raises(InputError, match="no run to draw"):
        plot.gain_by_lag({})
