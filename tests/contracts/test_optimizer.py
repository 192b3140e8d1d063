"""An optimizer and its schedule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import descent

from gradsim import Schedule
from gradsim.errors import PluginError
from gradsim_optimizers import SGD
from gradsim_schedules import StepDecay


def test_the_schedule_multiplies_the_learning_rate():
    assert SGD(0.2, schedule=StepDecay(gamma=0.5, every=2)).rate(3, 10) == 0.1
    x = descent(SGD(0.2, schedule=StepDecay(gamma=0.5, every=2)), [0.0], lambda u, x: [1.0], 4)[:, 0]
    np.testing.assert_allclose(x, [-0.2, -0.4, -0.5, -0.6], rtol=1e-14)
    assert SGD(0.2).rate(3, 10) == 0.2


@dataclass(frozen=True, eq=False)
class Falls(Schedule):
    """Below zero, at last."""

    name = "falls"

    def factor(self, update, updates):
        return 1 - update


def test_a_schedule_that_makes_no_sense_is_named():
    assert SGD(0.1, schedule=Falls()).rate(1, 10) == 0
    with pytest.raises(
        PluginError, match=r"Falls\(\): factor\(3, 10\) should be finite and 0 or more, not -2"
    ):
        SGD(0.1, schedule=Falls()).rate(3, 10)
