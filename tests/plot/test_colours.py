from __future__ import annotations

import numpy as np

from gradsim.plot.colours import diverging, to_oklab


def test_the_colours_are_perceptually_even():
    lab = to_oklab(np.array(diverging().colors))
    steps = np.linalg.norm(np.diff(lab, axis=0), axis=1)
    middle = len(lab) // 2
    for half in (steps[:middle], steps[middle:]):
        assert half.max() / half.min() < 1.1
    assert (np.diff(lab[: middle + 1, 0]) > 0).all()
    assert (np.diff(lab[middle:, 0]) < 0).all()
    assert abs(lab[0, 0] - lab[-1, 0]) < 0.05
