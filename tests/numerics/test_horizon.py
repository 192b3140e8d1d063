"""The horizon of curves with a closed form."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.numerics.horizon import horizon

LAGS = np.array([0, 1, 2, 4, 8])


@pytest.mark.parametrize("lags", [range(9), LAGS, [0, 8]])
def test_of_powers_it_is_known_whatever_the_lags(lags):
    assert horizon(-0.3 * np.array(lags) + 5, np.array(lags), -2.0) == pytest.approx(2 / 0.3)


@pytest.mark.parametrize(
    ("log10", "found"),
    [
        ([0, -3.0, -1, -3, -4], 3),  # the last crossing, half-way between 2 and 4
        ([0, -2.0, -3, -3, -4], 1),  # at the level is not below it
        ([0, -1.0, -3, np.nan, np.nan], 1.5),
        ([0, -1.0, np.nan, np.nan, -5], 2.75),
        ([0, -np.inf, -np.inf, -np.inf, -np.inf], 0),
        ([0, 1, np.inf, 1, -np.inf], 4),
        ([0, 1, np.inf, -3, -4], 4),
        ([0, -1.0, -3, -3, -1], np.nan),  # above again
        ([0] * 5, np.nan),
        ([-np.inf] * 5, np.nan),
        ([np.nan] * 5, np.nan),
    ],
)
def test_of_other_curves(log10, found):
    np.testing.assert_equal(horizon(np.array(log10, dtype=float), LAGS, -2.0), found)
