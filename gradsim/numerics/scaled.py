"""Numbers beyond the range of their dtype: a mantissa array and exact powers of two.

A product of a thousand Jacobians leaves the range of float64 long before it stops to be of interest, while
every number in it has a sensible size beside its neighbours. So neighbours share an exponent, which has
length 1 along the axes that share it: one for each vector (..., 1), for each block (..., 1, 1), for each of
many arrays (n, 1, ..., 1), for an array as a whole (). Powers of two are exact: moving them in and out of
an exponent changes no digit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsim.types import Array

KEEP = {4: 24, 8: 200}
"""Sizes within 2**-KEEP..2**KEEP (by bytes of the dtype) need no exponent: fourth powers, which are what
products of Gram matrices are, stay in range, and so do sums of many of them."""

ROOM = {4: 100, 8: 900}
"""Numbers within 2**-ROOM..2**ROOM are in range, and what they are added to or multiplied with next too."""

LOWEST = -(2**29)
"""The exponent of nothing, which holds up no other. Differences of two, and twice that, fit into int32."""

LOG10_2 = float(np.log10(2.0))

LEAST_SQUARE = 2.0**-900
"""Squares in float64, and sums of them, may have lost digits below this."""

_MILD = 120
"""Powers of two up to this exponent either way are normal numbers of every dtype."""

Axes = int | tuple[int, ...] | None


@dataclass(frozen=True)
class Scaled:
    """mantissa * 2**exponent; `exponent` (int) broadcasts against `mantissa`."""

    mantissa: Array
    exponent: Array

    @property
    def value(self) -> Array:
        """The plain array, as IEEE 754 rounds it: 0 for what is too small for the dtype, infinite beyond it.

        The mantissa itself, where there is no exponent: it is not to be changed.
        """
        return self.over(0)

    @property
    def log10(self) -> Array:
        """log10 of a non-negative mantissa and its exponent, float64; -inf for an exact zero."""
        with np.errstate(divide="ignore"):
            plain = np.log10(self.mantissa, dtype=np.float64)
        return np.asarray(plain + LOG10_2 * self.exponent if np.any(self.exponent) else plain)

    def __getitem__(self, key: Any) -> Scaled:
        return Scaled(self.mantissa[key], self.exponent[key])

    def __setitem__(self, key: Any, other: Scaled) -> None:
        self.mantissa[key], self.exponent[key] = other.mantissa, other.exponent

    def over(self, exponent: Array | int) -> Array:
        """The numbers over 2**exponent, rounded and with infinities as the dtype has it.

        The mantissa itself, where that is its exponent: it is not to be changed.
        """
        shift = np.asarray(self.exponent - exponent)
        if not shift.any():
            return self.mantissa
        with np.errstate(over="ignore", under="ignore"):
            if np.abs(shift).max() > _MILD:
                return np.asarray(np.ldexp(self.mantissa, shift))
            # The same, and faster, while the power of two is in range itself.
            return np.asarray(self.mantissa * np.ldexp(self.mantissa.dtype.type(1), shift))

    def settled(self, axis: Axes = -1, keep: int | None = None) -> Scaled:
        """The same numbers, where an exponent takes up what its axes hold beyond 2**-keep..2**keep."""
        size = np.abs(self.mantissa).max(axis=axis, keepdims=axis is not None)
        keep = KEEP[self.mantissa.itemsize] if keep is None else keep
        if axis is None and abs(math.frexp(size)[1]) <= keep:
            return self
        shift = shift_of(size, keep)
        if not shift.any():
            return self
        return Scaled(np.ldexp(self.mantissa, -shift), self.exponent + shift)

    def settle(self, axis: Axes = -1) -> None:
        """The same in place."""
        settled = self.settled(axis)
        if settled is not self:
            self[...] = settled

    def top(self, axis: Axes) -> Array:
        """The largest exponent along axes of what is not zero, or LOWEST; the axes stay, with length 1."""
        return top(self.exponent, self.mantissa != 0, axis)

    def common(self, axis: Axes) -> Scaled:
        """The same numbers with one exponent along axes. What is tiny beside the largest becomes zero."""
        exponent = or_zero(self.top(axis))
        return Scaled(self.over(exponent), exponent)


def top(exponent: Array, alive: Array, axis: Axes) -> Array:
    """The largest exponent along axes of what is alive, LOWEST where nothing is; the axes stay."""
    return np.asarray(np.where(alive, exponent, LOWEST).max(axis=axis, keepdims=axis is not None))


def or_zero(exponent: Array) -> Array:
    """Exponents from `top`, with zero in place of LOWEST: nothing needs none."""
    return np.where(exponent == LOWEST, 0, exponent).astype(np.int32)


def shift_of(size: Array, keep: int) -> Array:
    """The exponent to take out of numbers of this size: zero while within 2**-keep..2**keep."""
    shift = np.frexp(size)[1]
    return np.where(np.abs(shift) > keep, shift, 0).astype(np.int32)


def add(a: Scaled, b: Scaled, axis: Axes = -1) -> Scaled:
    """A + b, which have one exponent along axes each; a zero does not hold down the other."""
    # The larger one: what the smaller number loses to it is what any sum in the dtype would lose.
    exponent = or_zero(np.maximum(a.top(axis), b.top(axis)))
    return Scaled(a.over(exponent) + b.over(exponent), exponent)


def largest(vectors: Array) -> Array:
    """The largest size along the last axis; NaN if there is one."""
    sizes = np.abs(vectors)
    while (length := sizes.shape[-1]) > 1:  # halves, one on the other: to reduce short axes is slow
        half = -(-length // 2)
        sizes = np.maximum(sizes[..., :half], sizes[..., length - half :])
    return sizes[..., 0]


def range_end(vectors: Array) -> int | None:
    """Of vectors (rows, batch, m) made one from the next, the last row where one has left its range.

    Zero has left it where the one after is not; the last row of all counts as in range. None if all are.
    """
    most = ROOM[vectors.itemsize]
    # At a glance: where the squares are in range themselves.
    rows = np.arange(len(vectors) - 1)
    for number in (vectors.dtype, np.float64):
        wide = (vectors[:-1] if len(rows) == len(vectors) - 1 else vectors[rows]).astype(number, copy=False)
        with np.errstate(all="ignore"):
            squares = np.vecdot(wide, wide)
        most_square = min(2 * most, {4: 120, 8: 1000}[wide.itemsize])
        near = (2.0**-most_square < squares) & (squares < 2.0**most_square)
        rows = rows[~near.all(axis=-1)]
        if not len(rows):
            return None
    there, after = largest(vectors[rows]), largest(vectors[rows + 1])
    left = ~(there < 2.0**most) | ((there < 2.0**-most) & ((there > 0) | (after > 0)))
    rows = rows[left.any(axis=-1)]
    return int(rows[-1]) if len(rows) else None


def norm(scaled: Scaled, axes: tuple[int, ...]) -> Scaled:
    """Euclidean norms over axes that share an exponent, each with its own."""
    mantissa, exponent = scaled.mantissa.astype(np.float64, copy=False), scaled.exponent.squeeze(axes)
    with np.errstate(all="ignore"):
        squares = np.sum(mantissa * mantissa, axis=axes)
    if squares.size and squares.min() > LEAST_SQUARE and squares.max() < np.inf:
        return Scaled(np.sqrt(squares), exponent)
    # Zeros, and sizes whose squares leave the range.
    there = Scaled(mantissa, scaled.exponent).settled(axes, keep=400)
    return Scaled(np.sqrt(np.sum(there.mantissa * there.mantissa, axis=axes)), there.exponent.squeeze(axes))


def combine(parts: Scaled, axis: int) -> Scaled:
    """Root of the sum of squares along an axis, of parts with exponents of their own."""
    there = parts.common(axis)
    with np.errstate(under="ignore"):
        total = np.sqrt(np.sum(there.mantissa * there.mantissa, axis=axis))
    return Scaled(total, there.exponent.squeeze(axis))


def ratio(a: Scaled, b: Scaled) -> Array:
    """The norms of settled vectors over those of others, float64; 1 where both are zero."""
    over, under = (np.sqrt(np.vecdot(m, m)) for m in (x.mantissa.astype(np.float64) for x in (a, b)))
    with np.errstate(over="ignore"):
        sizes = np.ldexp(over, (a.exponent - b.exponent)[..., 0])
    of_nothing = np.where(sizes > 0, np.inf, 1.0)
    return np.asarray(np.divide(sizes, under, out=of_nothing, where=under > 0))


def euclidean(*arrays: Array) -> float:
    """The Euclidean norm of all arrays together, also where squares leave the range; NaN or inf if any is."""
    if len(arrays) != 1:
        return euclidean(np.array([euclidean(x) for x in arrays]))
    (x,) = arrays
    # A dot product first: it is much quicker than sizes, and nearly always in range.
    wide = x.ravel().astype(np.float64, copy=False)
    with np.errstate(over="ignore", invalid="ignore", under="ignore"):
        square = float(wide @ wide)
    if LEAST_SQUARE < square < np.inf:
        return math.sqrt(square)
    top = float(np.abs(wide).max(initial=0.0))
    return top * float(np.linalg.norm(wide / top)) if 0 < top < np.inf else top
