"""What an act is, and what several of them are made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation


@dataclass(frozen=True)
class Act:
    """A mitigation, and what it does in each phase. `exact`: without differences of near numbers.

    `check` looks at what has been drawn, `data` gives what its step sees beside what cells draw. Under a
    `rule` the gradient is all there is: `found` gives it with the sizes of its terms, or `jacobians` are
    those of a way back that gives the same.
    """

    made: Mitigation
    cell: Callable | None = None
    data: Callable | None = None
    check: Callable | None = None
    jacobians: Callable | None = None
    adjoint: Callable | None = None
    contributions: Callable | None = None
    penalty: Callable | None = None
    gradient: Callable | None = None
    rule: bool = False
    found: Callable | None = None
    exact: bool = True


def differences(function, x, h=1e-5):
    """The derivative of a number by each component of x, with errors of the fourth order."""
    found = np.zeros(x.shape)
    for index in np.ndindex(x.shape):
        values = []
        for k in (-2, -1, 1, 2):
            moved = x.copy()
            moved[index] += k * h
            values.append(function(moved))
        found[index] = (values[0] - values[3] + 8 * (values[2] - values[1])) / (12 * h)
    return found


def total(gradient):
    return math.sqrt(sum(float((g * g).sum()) for g in gradient.values()))
