"""Central differences that know where a function has a kink."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from gradsim.types import Array

_WIDE, _NARROW = 2e-5, 5e-6
_RATIO = _WIDE / _NARROW


def slopes(function: Callable[[float], Array]) -> tuple[Array, Array]:
    """The derivative at 0, element by element, and where the function is smooth.

    Where it is, the slopes to the right and to the left differ by the width times the curvature. At
    a kink, and wherever one lies within the width, that gap does not shrink with the width. Errors
    of truncation and rounding are about 1e-11 of a function of size 1.
    """
    here = function(0.0)
    wide, wide_gap = _centre_and_gap(function, here, _WIDE)
    narrow, narrow_gap = _centre_and_gap(function, here, _NARROW)
    with np.errstate(invalid="ignore"):
        slope = (_RATIO**2 * narrow - wide) / (_RATIO**2 - 1)
        size = np.abs(wide) + np.abs(narrow)
        counts = np.isfinite(size) & (size > 0)
        typical = np.median(size[counts]) if counts.any() else 0.0
        rounding = 1e-8 * np.max(np.abs(here), where=np.isfinite(here), initial=1e-3)
        smooth = np.abs(wide_gap - _RATIO * narrow_gap) <= 1e-6 * (size + typical) + rounding
    smooth &= np.isfinite(wide) & np.isfinite(narrow)
    return np.where(smooth, slope, 0.0), smooth


def _centre_and_gap(function: Callable[[float], Array], here: Array, width: float) -> tuple[Array, Array]:
    right, left = (function(width) - here) / width, (here - function(-width)) / width
    return (right + left) / 2, right - left


def jacobian(step: Callable[[Array], Array], state: Array) -> tuple[Array, Array]:
    """The whole matrix of a map of states (..., m), shape (..., m, m), and where it is smooth."""
    m = state.shape[-1]
    unit = np.eye(m).reshape(m, *(1,) * (state.ndim - 1), m)
    columns, smooth = slopes(lambda h: step(state + h * unit))
    return np.moveaxis(columns, 0, -1), np.moveaxis(smooth, 0, -1)


def worst(
    ours: Array, theirs: Array, counts: Array, size: float, rtol: float, atol: float
) -> tuple[float, tuple[int, ...]]:
    """The largest error over what is allowed, and where; errors that do not count are zero.

    Allowed is `rtol` of the element, `atol` of the largest element, and what rounding makes of a
    function of this `size`.
    """
    largest = float(np.max(np.abs(theirs), where=counts, initial=0.0))
    allowed = rtol * np.abs(theirs) + atol * largest + 1e-9 * max(size, 1e-3)
    wrong = np.where(counts, np.abs(ours - theirs) / allowed, 0.0)
    wrong = np.where(np.isnan(wrong), np.inf, wrong)
    place = np.unravel_index(int(np.argmax(wrong)), wrong.shape)
    return float(wrong[place]), tuple(int(i) for i in place)
