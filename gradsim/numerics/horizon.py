"""How far back something reaches that shrinks with the lag."""

from __future__ import annotations

import math

import numpy as np

from gradsim.types import Array


def horizon(log10: Array, lags: Array, level: float) -> float:
    """The lag from which on a size stays below 10^`level` times that at the first lag; `level` is 0 or less.

    It is where ``log10 - log10[0]``, taken for linear in the lag between two lags, falls below `level` for
    the last time: of w^l it is ``level / log10(w)`` whatever lags are there. NaN if the size is not below at
    the last lag, or nothing is there at the first. Lags whose size is NaN, "not there", are left out.
    """
    there = ~np.isnan(log10)
    log10, lags = log10[there], lags[there]
    if not len(log10) or not math.isfinite(log10[0]):
        return math.nan
    drop = log10 - log10[0] - level
    i = int(np.flatnonzero(drop >= 0)[-1])
    if i == len(lags) - 1:
        return math.nan
    above, below = float(drop[i]), float(drop[i + 1])
    part = above / (above - below) if above < math.inf else 1.0
    return float(lags[i] + part * (lags[i + 1] - lags[i]))
