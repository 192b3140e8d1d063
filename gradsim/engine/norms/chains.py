"""Many products at once, all multiplied from the right by one matrix, or by one each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsim.engine.jacobians import SMALL
from gradsim.numerics.scaled import KEEP, LEAST_SQUARE
from gradsim.types import Array

_DIRECT = 8
"""Intervals of up to so many steps are multiplied out: Gram matrices would not pay."""


@dataclass(frozen=True)
class Chain:
    """Products times powers of two, one for each time.

    `matrix` (batch, g, ..., time, k, k), `exponent` (batch, g, ..., time). Multiplied in place. Large
    blocks lie one after the other in memory, so that those of all times are the rows of one matrix; of
    small ones, in float64, the same element of all blocks does.
    """

    matrix: Array
    exponent: Array

    @classmethod
    def empty(cls, shape: tuple[int, int, int], block: int, dtype: np.dtype) -> Chain:
        """Room for products (batch, g, time)."""
        exponent = np.zeros(shape, dtype=np.int32)
        if block > SMALL:
            return cls(np.empty((*shape, block, block), dtype), exponent)
        batch, groups, times = shape
        return cls(np.empty((block, block, batch, times, groups)).transpose(2, 4, 3, 0, 1), exponent)

    @classmethod
    def of(cls, blocks: Array) -> Chain:
        """Step Jacobians (step, batch, g, k, k), in range; large ones are copied only if they have to be."""
        given = blocks.transpose(1, 2, 0, 3, 4)
        shape, block = given.shape[:3], given.shape[-1]
        if block > SMALL and _in_range(squared(given), given.itemsize):
            return cls(given, np.zeros(shape, dtype=np.int32))
        chain = cls.empty(shape, block, blocks.dtype)
        chain.matrix[...] = given
        chain.settle()
        return chain

    def __getitem__(self, key: Any) -> Chain:
        return Chain(self.matrix[key], self.exponent[key])

    def split(self, span: slice, count: int) -> Chain:
        """A view of a span of times as so many intervals of equal length: (batch, g, interval, time, ...)."""
        matrix, exponent = self.matrix[:, :, span], self.exponent[:, :, span]
        return Chain(
            matrix.reshape(*matrix.shape[:2], count, -1, *matrix.shape[-2:]),
            exponent.reshape(*exponent.shape[:2], count, -1),
        )

    def transposed(self) -> Chain:
        """A view of the transposed products."""
        return Chain(self.matrix.swapaxes(-1, -2), self.exponent)

    def take(self, other: Chain) -> None:
        """Become a copy of another one."""
        self.matrix[...] = other.matrix
        self.exponent[...] = other.exponent

    def multiply(self, right: Chain) -> None:
        """Multiply the products of all times by one matrix (batch, g, ..., k, k)."""
        k = self.matrix.shape[-1]
        if k > SMALL:
            rows = self.matrix.reshape(*self.matrix.shape[:-3], -1, k)
            self.matrix[...] = np.matmul(rows, right.matrix).reshape(self.matrix.shape)
        else:
            self.matrix[...] = multiply(self.matrix, right.matrix[..., None, :, :])
        self.exponent[...] += right.exponent[..., None]

    def settle(self) -> Array:
        """Move what left the range into the exponents, in place. Squared Frobenius norms of the mantissas."""
        squares = squared(self.matrix)
        if not _in_range(squares, self.matrix.itemsize):
            keep = 4.0 ** KEEP[self.matrix.itemsize]
            out = ~((squares > 1 / keep) & (squares < keep))
            some = self.matrix[out]
            shift = np.frexp(np.abs(some).max(axis=(-1, -2)))[1]
            some = np.ldexp(some, -shift[:, None, None])
            self.matrix[out], squares[out] = some, squared(some)
            self.exponent[out] += shift
        return squares

    def settled(self) -> Chain:
        """A copy, in range."""
        copy = Chain(self.matrix.copy(), self.exponent.copy())
        copy.settle()
        return copy

    def gram(self) -> Array:
        """X^T X of each product X, in float64."""
        wide = self.matrix.astype(np.float64, copy=False)
        return multiply(wide.swapaxes(-1, -2), wide)


def multiply(a: Array, b: Array) -> Array:
    """Products of blocks (..., k, k); small ones element by element."""
    k = a.shape[-1]
    if k > SMALL:
        return np.asarray(np.matmul(a, b))
    return np.asarray(sum(a[..., :, d, None] * b[..., None, d, :] for d in range(k)))


def squared(blocks: Array) -> Array:
    """Squared Frobenius norms (...) of blocks (..., k, k); 0 or infinite where the dtype cannot hold them."""
    k = blocks.shape[-1]
    with np.errstate(over="ignore", under="ignore"):
        if k > SMALL:
            flat = blocks.reshape(*blocks.shape[:-2], -1)
            return np.asarray(np.vecdot(flat, flat))
        return np.asarray(sum(blocks[..., i, j] ** 2 for i in range(k) for j in range(k)))


def _in_range(squares: Array, itemsize: int) -> bool:
    """Whether all squared norms are within the range that needs no exponent."""
    keep = 4.0 ** KEEP[itemsize]
    return bool(1 / keep < squares.min() and squares.max() < keep)


def first_width(steps: int) -> int:
    """The length of intervals that are multiplied out; doubled, it ends at all steps or soon after."""
    width = steps
    while width > _DIRECT:
        width = -(-width // 2)
    return width


def folded(squares: Array, exponents: Array) -> tuple[Array, Array]:
    """Squares and exponents of norms, with the exponents put back where float64 has room for them."""
    if not exponents.any():
        return squares, exponents
    with np.errstate(over="ignore", under="ignore"):
        whole = np.ldexp(squares, 2 * exponents)
    fits = (whole > LEAST_SQUARE) & (whole < 1 / LEAST_SQUARE) | (squares == 0)
    return np.where(fits, whole, squares), np.where(fits, 0, exponents)
