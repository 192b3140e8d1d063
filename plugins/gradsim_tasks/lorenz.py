"""Forecasting the Lorenz system."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from gradsim.types import PositiveInt
from gradsim_tasks.series import Series

SIGMA, RHO, BETA = 10.0, 28.0, 8 / 3
START, STEP, TRANSIENT = (1.0, 1.0, 1.0), 0.01, 2000


@dataclass(frozen=True, eq=False)
class Lorenz(Series):
    """Forecast a chaotic flow: dx/dt = 10 (y - x), dy/dt = x (28 - z) - y, dz/dt = x y - (8/3) z.

    `rows` rows of x, y, z. It starts at (1, 1, 1), and the first 20 units of time are dropped. Solved by the
    fourth-order Runge-Kutta method in steps of 0.01, with `stride` steps from row to row. Errors grow e-fold
    in 1.1 units of time, which is 22 rows at a stride of 5. Windows of `length` rows, what is `ahead` of
    them, scaling, parts and baseline are those of `gradsim_tasks.series.Series`.

    Lorenz (1963), Deterministic nonperiodic flow, equations 25-27 with r = 28.
    """

    name = "lorenz"

    rows: PositiveInt = 5000
    stride: PositiveInt = 5

    @property
    def columns(self):
        return ("x", "y", "z")

    def values(self):
        return solution(TRANSIENT + (self.rows - 1) * self.stride + 1)[TRANSIENT :: self.stride]


@functools.lru_cache(maxsize=8)
def solution(points, h=STEP, start=START):
    """The solution at times 0, h, 2 h, ...; an array (time, 3).

    Only sums, products and quotients of single numbers: the same on every machine, to the last bit.
    """
    path = [start]
    for _ in range(points - 1):
        path.append(runge_kutta(path[-1], h))
    return np.array(path)


def runge_kutta(now, h):
    """One step of length h."""
    k1 = _slope(*now)
    k2 = _slope(*_moved(now, k1, h / 2))
    k3 = _slope(*_moved(now, k2, h / 2))
    k4 = _slope(*_moved(now, k3, h))
    mean = [(a + 2 * b + 2 * c + d) / 6 for a, b, c, d in zip(k1, k2, k3, k4, strict=True)]
    return _moved(now, mean, h)


def _slope(x, y, z):
    return SIGMA * (y - x), x * (RHO - z) - y, x * y - BETA * z


def _moved(now, slope, h):
    return tuple(s + h * k for s, k in zip(now, slope, strict=True))
