from __future__ import annotations

import numpy as np
import pytest

from gradsim.plot.decades import DecadeLocator, power


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
