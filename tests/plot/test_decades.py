from __future__ import annotations

import numpy as np
import pytest

from gradsim import plot
from gradsim.plot.decades import DecadeLocator, as_powers, power


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (-800, 0, [-800, -600, -400, -200, 0]),
        (-4, 2, [-4, -3, -2, -1, 0, 1, 2]),
        (-0.1, 1.05, [0, 0.3010, 0.6990, 1]),
    ],
)
def test_ticks(low, high, ticks):
    np.testing.assert_allclose(sorted(DecadeLocator().tick_values(low, high)), ticks, atol=1e-4)


def test_tick_labels():
    assert [power(x) for x in (0, -400, 0.30103, -0.69897)] == ["1", "$10^{-400}$", "2", "0.2"]
    assert [power(x, plain=True) for x in (-1, 2, 4, -3.5)] == ["0.1", "100", "$10^{4}$", "$10^{-3.5}$"]


@pytest.mark.parametrize(
    ("low", "labels"),
    [(-1.1, ["0.1", "0.2", "0.5", "1"]), (-3.1, ["$10^{-3}$", "$10^{-2}$", "$10^{-1}$", "1"])],
)
def test_an_axis_has_one_kind_of_labels(low, labels):
    ax = plot.new_figure().add_subplot()
    ax.set_ylim(low, 0.1)
    as_powers(ax.yaxis)
    ax.figure.draw_without_rendering()
    assert [label.get_text() for label in ax.get_yticklabels()] == labels
