"""Axes of log10 values, labelled as powers of ten: they reach beyond 1e-308 and 1e+308."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axis import Axis
from matplotlib.ticker import Formatter, Locator

_STRIDES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
_FINE = 2.5
"""Decades of the view below which ticks stand within decades too."""


class DecadeLocator(Locator):
    """Ticks at whole log10 values, or at 1, 2, 5 times them in a narrow view; minor ones in between."""

    def __init__(self, minor: bool = False, ticks: int = 7) -> None:
        self.minor, self.ticks = minor, ticks

    def __call__(self) -> Any:
        """The ticks in view."""
        assert self.axis is not None
        return self.tick_values(*self.axis.get_view_interval())

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """The ticks between two log10 values."""
        low, high = sorted((vmin, vmax))
        span = high - low
        stride = next((s for s in _STRIDES if span / s <= self.ticks), 10 ** math.ceil(math.log10(span + 1)))
        whole = np.arange(math.floor(low / stride), math.ceil(high / stride) + 1) * float(stride)
        if self.minor:
            return self._minor(low, high, stride)
        if span < _FINE:
            whole = np.add.outer(whole, np.log10([1, 2, 5])).ravel()
        return whole[(whole >= low - 1e-9) & (whole <= high + 1e-9)]

    def _minor(self, low: float, high: float, stride: float) -> Any:
        ones = np.arange(math.floor(low), math.ceil(high) + 1, dtype=float)
        if stride > 1:
            return ones if stride <= 5 else np.array([])
        return np.add.outer(ones, np.log10(np.arange(2, 10))).ravel()


def power(log10: float, plain: bool = False) -> str:
    """10**log10 as a label; a whole power as such, unless plain numbers are asked for."""
    whole = abs(log10 - round(log10)) < 1e-9
    if round(log10, 9) == 0:
        return "1"
    if abs(log10) < 3 and (plain or not whole):
        return f"{10**log10:.3g}"
    return f"$10^{{{log10:.{0 if whole else 1}f}}}$"


class DecadeFormatter(Formatter):
    """Powers of ten; in a narrow view, which has ticks within decades, plain numbers."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        """The label of a tick."""
        assert self.axis is not None
        low, high = self.axis.get_view_interval()
        return power(x, plain=abs(high - low) < _FINE)


def as_powers(axis: Axis, minor: bool = True) -> None:
    """Label an axis that shows log10 values by the values themselves."""
    axis.set_major_locator(DecadeLocator())
    axis.set_major_formatter(DecadeFormatter())
    if minor:
        axis.set_minor_locator(DecadeLocator(minor=True))
