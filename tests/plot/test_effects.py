"""Figures of mitigations side by side: which lines there are, and where points lie."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import analysis, compare, plot, simulate
from gradsim.errors import InputError
from gradsim_cells import GRU, Elman
from gradsim_mitigations import Gate, Immediate, Truncate


@pytest.fixture(scope="module")
def compared():
    inputs = np.random.default_rng(2).standard_normal((20, 2, 2))
    cells = {"elman": Elman(2, 3), "gru": GRU(2, 3)}
    return compare(cells, inputs=inputs, mitigations=[Truncate(1, 4), Immediate(), Gate()], seeds=1)


def test_a_panel_a_cell_and_a_line_for_what_differs(compared):
    figure = plot.gain_by_lag_of_mitigations(compared)
    assert [ax.get_title(loc="left") for ax in figure.axes] == ["elman", "gru"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["none", "effective: truncate", "gate"]
    drawn = figure.axes[0].get_lines()[1]
    median = analysis.gain_by_lag(
        compared.sel(cell="elman", mitigation="truncate"), "effective_gain", apart=()
    )
    there = np.isfinite(median["median"].values)
    np.testing.assert_allclose(drawn.get_ydata()[there], median["median"].values[there])
    assert drawn.get_linestyle() == "--"


def test_many_lines_look_each_like_no_other():
    inputs = np.random.default_rng(2).standard_normal((12, 1, 2))
    chosen = {f"{k} steps": Truncate(1, k) for k in range(1, 10)} | {"gated": Gate()}
    ds = compare(
        [Elman(2, 2)],
        inputs=inputs,
        mitigations=chosen,
        seeds=1,
        record=["product_norm", "effective_product_norm"],
    )
    (ax,) = plot.gain_by_lag_of_mitigations(ds).axes
    looks = [
        (line.get_color(), line.get_marker(), line.get_linestyle())
        for line in ax.get_lines()
        if not line.get_label().startswith("_")
    ]
    assert len(looks) == len(set(looks)) == 11


@pytest.mark.parametrize("cost", ["gradient_seconds", "backward_flops", "memory_bytes"])
def test_points_lie_at_bias_and_relative_cost(compared, cost):
    ax = plot.bias_against_cost(compared, cost=cost)
    table = analysis.effects(compared).sel(cell="gru")
    x, y = ax.get_lines()[1].get_data()
    np.testing.assert_allclose(x, np.log10(table[cost] / table[cost].sel(mitigation="none")))
    some = table.bias.values > 1e-12
    np.testing.assert_allclose(y[some], np.log10(table.bias.values[some]))
    assert set(y[~some]) == {y[0]}  # what is exact is on one line, below the rest
    assert y[0] < y[some].min()


def test_runs_are_no_comparison():
    ds = simulate(Elman(1, 2), np.ones((4, 1, 1)))
    for draw in (plot.bias_against_cost, plot.gain_by_lag_of_mitigations):
        with pytest.raises(InputError, match="a comparison with mitigations is needed"):
            draw(ds)


def test_letters_of_points_at_one_place_are_written_once(compared):
    same = compared.copy()
    same["gradient_seconds"] = same["gradient_seconds"] * 0 + 1
    ax = plot.bias_against_cost(same)
    letters = [text.get_text() for text in ax.texts]
    assert "a,d" in letters  # none and the gate, both exact
    assert "a" not in letters
