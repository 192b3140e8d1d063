"""Numbers beyond the range of their dtype: a mantissa array and an exact power of two."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsim.types import Array

_MILD = 120
"""Powers of two up to this exponent either way are normal numbers of every dtype."""

LOWEST = np.iinfo(np.int32).min // 4
"""The exponent of nothing, which holds up no other."""

LOG10_2 = float(np.log10(2.0))

LEAST_SQUARE = 1e-280
"""Squares below this may have lost digits."""


@dataclass(frozen=True)
class Scaled:
    """mantissa * 2**exponent; `exponent` (int) broadcasts against `mantissa`."""

    mantissa: Array
    exponent: Array

    @property
    def value(self) -> Array:
        """The plain array. Elements that leave the range of the dtype are NaN, exact zeros stay.

        The mantissa itself, where there is no exponent: it is not to be changed.
        """
        if not np.any(self.exponent):
            return self.mantissa
        with np.errstate(over="ignore", under="ignore"):
            plain = _scaled(self.mantissa, self.exponent)
        if plain.all() and np.isfinite(plain).all():
            return plain
        lost = ~np.isfinite(plain) | ((plain == 0) & (self.mantissa != 0))
        if lost.any():
            plain[lost] = np.nan
        return plain

    @property
    def rounded(self) -> Array:
        """The plain array, with zero for what is too small for the dtype; see `value`."""
        if not np.any(self.exponent):
            return self.mantissa
        with np.errstate(over="ignore", under="ignore"):
            plain = _scaled(self.mantissa, self.exponent)
        return np.where(np.isfinite(plain), plain, plain.dtype.type(np.nan))

    @property
    def log10(self) -> Array:
        """log10 of a non-negative mantissa and its exponent, float64; -inf for an exact zero."""
        with np.errstate(divide="ignore"):
            plain = np.log10(self.mantissa, dtype=np.float64)
        return np.asarray(plain + LOG10_2 * self.exponent if np.any(self.exponent) else plain)

    def __getitem__(self, key: Any) -> Scaled:
        return Scaled(self.mantissa[key], self.exponent[key])


def _scaled(mantissa: Array, exponent: Array) -> Array:
    """ldexp; as a product, which is the same and faster, where the power of two is in range itself."""
    if np.abs(exponent).max() > _MILD:
        return np.asarray(np.ldexp(mantissa, exponent))
    return np.asarray(mantissa * np.ldexp(mantissa.dtype.type(1), exponent))


def shift_of(size: Array, keep: int) -> Array:
    """The exponent to take out of numbers of this size: zero while within 2**-keep..2**keep."""
    shift = np.frexp(size)[1]
    return np.where(np.abs(shift) > keep, shift, 0).astype(np.int32)


def norm(scaled: Scaled, axes: tuple[int, ...]) -> Scaled:
    """Euclidean norm over the last axes; the exponent has one entry for each norm."""
    mantissa = scaled.mantissa.astype(np.float64, copy=False)
    with np.errstate(all="ignore"):
        squares = np.sum(mantissa * mantissa, axis=axes)
    if squares.size and squares.min() > LEAST_SQUARE and squares.max() < np.inf:
        return Scaled(np.sqrt(squares), scaled.exponent + np.zeros(squares.shape, dtype=np.int32))
    shift = shift_of(np.abs(mantissa).max(axis=axes, initial=0), 400)  # squares must stay in range
    if shift.any():
        mantissa = np.ldexp(mantissa, -np.expand_dims(shift, axes))
    return Scaled(np.sqrt(np.sum(mantissa * mantissa, axis=axes)), scaled.exponent + shift)


def combine(parts: Scaled, axis: int) -> Scaled:
    """Root of the sum of squares along an axis, of parts with exponents of their own."""
    top = np.where(parts.mantissa > 0, parts.exponent, LOWEST).max(axis=axis)
    down = np.maximum(parts.exponent - np.expand_dims(top, axis), -2000)
    with np.errstate(under="ignore"):
        shifted = np.ldexp(parts.mantissa, np.where(parts.mantissa > 0, down, 0))
        total = np.sqrt(np.sum(shifted * shifted, axis=axis))
    return Scaled(total, np.where(total > 0, top, 0))


def euclidean(x: Array) -> float:
    """The Euclidean norm of an array, also where squares leave the range; NaN or inf if it has any."""
    wide = x.ravel().astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        square = float(wide @ wide)
    if LEAST_SQUARE < square < np.inf:
        return math.sqrt(square)
    top = float(np.abs(wide).max(initial=0.0))
    return top * float(np.linalg.norm(wide / top)) if 0 < top < np.inf else top
