"""Forecasting the Mackey-Glass equation."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from gradsim.types import PositiveInt
from gradsim_tasks.series import Series

BETA, GAMMA = 0.2, 0.1
START, TRANSIENT = 1.2, 1000


@dataclass(frozen=True, eq=False)
class MackeyGlass(Series):
    """Forecast a series with a delay: dx/dt = 0.2 x(t - tau) / (1 + x(t - tau)^10) - 0.1 x(t).

    One row per unit of time, `rows` of them, one column. x is 1.2 up to time 0; the first 1000 units of time
    are dropped. With tau = 17 the series is weakly chaotic, with 30 more so. Solved by the fourth-order
    Runge-Kutta method in steps of 0.1; half a step back it is interpolated by a cubic through the
    values and slopes at the ends of the step, which keeps the order. Windows of `length` rows, what is
    `ahead` of them, scaling, parts and baseline are those of `gradsim_tasks.series.Series`.

    Mackey & Glass (1977), Oscillation and chaos in physiological control systems.
    """

    name = "mackey_glass"

    tau: PositiveInt = 17
    rows: PositiveInt = 5000

    def values(self):
        return solution(self.tau, TRANSIENT + self.rows)[TRANSIENT:, None]


@functools.lru_cache(maxsize=8)
def solution(tau, units, substeps=10, start=START):
    """The solution at times 0, 1, ..., units - 1, with `substeps` steps each.

    Only sums, products and quotients of single numbers: the same on every machine, to the last bit.
    """
    h, back = 1 / substeps, tau * substeps
    x, gain = [start] * (back + 1), [_gain(start)] * (back + 1)
    middle = [_gain(start)] * back  # half a step later
    for i in range((units - 1) * substeps):
        now, a, b, c = x[-1], gain[i], middle[i], gain[i + 1]
        k1 = a - GAMMA * now
        k2 = b - GAMMA * (now + h / 2 * k1)
        k3 = b - GAMMA * (now + h / 2 * k2)
        k4 = c - GAMMA * (now + h * k3)
        x.append(now + h / 6 * (k1 + 2 * k2 + 2 * k3 + k4))
        gain.append(_gain(x[-1]))
        slope = c - GAMMA * x[-1]
        middle.append(_gain((now + x[-1]) / 2 + h / 8 * (k1 - slope)))
    return np.array(x[back::substeps])


def _gain(x):
    """What comes back after the delay: 0.2 x / (1 + x^10)."""
    squared = x * x
    fourth = squared * squared
    return BETA * x / (1 + fourth * fourth * squared)
