"""Frobenius norms of all Jacobian products without making all products.

For a time r between k and t, P(t, k) = A B with A = P(t, r) and B = P(r, k), and

    ||A B||_F^2 = <A^T A, B B^T>,

an inner product of two m x m matrices, one of t and one of k. So the norms of all pairs on either
side of r are one matrix product of such Gram matrices, 2 m^2 operations a pair instead of 2 m^3; the
pairs on one side are halved again. This is where time goes down from T^2 m^3 to T^2 m^2 + T log(T) m^3.

Gram matrices are made and multiplied in float64. Where A and B nearly annihilate each other the inner
product loses digits; such pairs, and those that leave the range, are multiplied out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gradsim.engine.backward import KEEP
from gradsim.engine.jacobians import SMALL, ScaledJacobians
from gradsim.scaled import shift_of
from gradsim.types import Array

_DIRECT = 8
"""Intervals of up to so many steps are multiplied out: halving would not pay."""

_RELIABLE = 1e-5
"""||A B||^2 over the product of the norms of the two Gram matrices, below which a pair is made directly."""

_TINY = 2.0**-900
_LOWEST = np.iinfo(np.int32).min // 4

_AT_ONCE = 2**22
"""Elements of the pairs that are multiplied out in one go."""


@dataclass(frozen=True)
class Chain:
    """Products from or to one time: mantissas (n, batch, g, k, k), exponents (n, batch, g)."""

    mantissa: Array
    exponent: Array


def all_norms(
    jacobians: ScaledJacobians, batch: slice, check: Callable[[], None] = lambda: None
) -> tuple[Array, Array]:
    """Squared norms and exponents of the norms of all P(t, k), (time, source, batch); NaN for t < k.

    `check` is called now and then, and may raise to leave.
    """
    steps, size, groups, k, _ = jacobians.blocks[:, batch].shape
    squares = np.full((steps + 1, steps + 1, size), np.nan)
    exponents = np.zeros(squares.shape, dtype=np.int32)
    diagonal = np.arange(steps + 1)
    squares[diagonal, diagonal] = groups * k
    for low, high in _intervals(0, steps):
        check()
        if high - low <= _DIRECT:
            for source in range(low, high):
                chain = _after(jacobians, batch, source, high)
                rows = slice(source + 1, high + 1)
                found = _summed(_squares(chain.mantissa), chain.exponent)
                squares[rows, source], exponents[rows, source] = found
        else:
            middle = (low + high) // 2
            after, before = _after(jacobians, batch, middle, high), _before(jacobians, batch, low, middle)
            rows, columns = slice(middle + 1, high + 1), slice(low, middle)
            squares[rows, columns], exponents[rows, columns] = _across(after, before)
    return squares, exponents


def _intervals(low: int, high: int) -> Iterator[tuple[int, int]]:
    """An interval of times, then both its halves, and so on."""
    yield low, high
    if high - low > _DIRECT:
        middle = (low + high) // 2
        yield from _intervals(low, middle)
        yield from _intervals(middle, high)


def multiply(a: Array, b: Array) -> Array:
    """Products of blocks (..., k, k); small ones element by element."""
    k = a.shape[-1]
    if k == 1:
        return np.asarray(a * b)
    if k <= SMALL:
        return np.asarray(sum(a[..., :, d, None] * b[..., None, d, :] for d in range(k)))
    return np.asarray(np.matmul(a, b))


def _after(jacobians: ScaledJacobians, batch: slice, first: int, last: int) -> Chain:
    """P(t, first) for t = first+1..last."""
    chain = Chain(jacobians.blocks[first:last, batch].copy(), jacobians.exponent[first:last, batch].copy())
    for i in range(1, last - first):
        _extend(chain, i, i - 1, multiply(chain.mantissa[i], chain.mantissa[i - 1]), jacobians.safe)
    return chain


def _before(jacobians: ScaledJacobians, batch: slice, first: int, last: int) -> Chain:
    """P(last, k) for k = first..last-1."""
    chain = Chain(jacobians.blocks[first:last, batch].copy(), jacobians.exponent[first:last, batch].copy())
    for i in range(last - first - 2, -1, -1):
        _extend(chain, i, i + 1, multiply(chain.mantissa[i + 1], chain.mantissa[i]), jacobians.safe)
    return chain


def _extend(chain: Chain, i: int, neighbour: int, product: Array, safe: bool) -> None:
    """Put a product in place of the Jacobian that it ends with, and keep it in range."""
    chain.mantissa[i] = product
    chain.exponent[i] += chain.exponent[neighbour]
    # Single Jacobians are within 2**-20..2**20 (float32), so that four of them need no look.
    if not safe and (i % 4 == 0 or i in (0, len(chain.mantissa) - 1)):
        shift = shift_of(np.abs(product).max(axis=(-1, -2)), KEEP[product.itemsize] // 2)
        if shift.any():
            chain.mantissa[i] = np.ldexp(product, -shift[..., None, None])
            chain.exponent[i] += shift


def _squares(blocks: Array) -> Array:
    """Squared Frobenius norms (..., g), in float64."""
    return np.asarray(np.einsum("...ac,...ac->...", blocks, blocks, dtype=np.float64))


def _summed(squares: Array, exponent: Array) -> tuple[Array, Array]:
    """Sum over the groups (last axis) of squares * 4**exponent, over 4**top; and top."""
    top = np.where(squares > 0, exponent, _LOWEST).max(axis=-1)
    down = np.clip(exponent - top[..., None], -1000, 0)
    return np.ldexp(squares, 2 * down).sum(axis=-1), np.where(top == _LOWEST, 0, top)


def _across(after: Chain, before: Chain) -> tuple[Array, Array]:
    """Squared norms (time, source, batch) of all products A B, and exponents."""
    rows, columns = _Grams.of(after, transposed=True), _Grams.of(before, transposed=False)
    squares = rows.dot(columns)
    exponents = rows.top[:, None] + columns.top[None]
    doubtful = squares < np.maximum(_RELIABLE * rows.bound(columns), _TINY)
    doubtful &= rows.alive[:, None] & columns.alive[None]
    pairs = np.argwhere(doubtful)
    each = max(1, _AT_ONCE // after.mantissa[0, 0].size)
    for i in range(0, len(pairs), each):
        t, k, b = pairs[i : i + each].T
        product = multiply(after.mantissa[t, b], before.mantissa[k, b])
        exponent = after.exponent[t, b] + before.exponent[k, b]
        squares[t, k, b], exponents[t, k, b] = _summed(_squares(product), exponent)
    return squares, exponents


@dataclass(frozen=True)
class _Grams:
    """Gram matrices of a chain, the groups side by side, with one exponent for all of them.

    `matrix` (batch, n, g * k * k); `size` (batch, n, g), the norm of each group's; `top` (n, batch);
    `alive` (n, batch): not exactly zero.
    """

    matrix: Array
    size: Array
    top: Array
    alive: Array

    @classmethod
    def of(cls, chain: Chain, transposed: bool) -> _Grams:
        """A^T A, transposed, or B B^T."""
        wide = chain.mantissa.astype(np.float64)
        other = wide.swapaxes(-1, -2)
        gram = multiply(other, wide) if transposed else multiply(wide, other)
        alive = np.asarray(gram.any(axis=(-1, -2)))
        exponent = np.where(alive, chain.exponent, _LOWEST)
        top = exponent.max(axis=-1)
        down = np.clip(exponent - top[..., None], -2000, 0)  # what underflows makes pairs doubtful
        if down.any():
            gram = np.ldexp(gram, 2 * down[..., None, None])
        size = np.sqrt(_squares(gram)).swapaxes(0, 1)
        matrix = gram.reshape(*gram.shape[:2], -1).swapaxes(0, 1)
        return cls(matrix, size, np.where(top == _LOWEST, 0, top), np.asarray(alive.any(axis=-1)))

    def dot(self, other: _Grams) -> Array:
        """All inner products, (n, n', batch)."""
        return np.asarray(np.matmul(self.matrix, other.matrix.swapaxes(-1, -2)).transpose(1, 2, 0))

    def bound(self, other: _Grams) -> Array:
        """What the inner products would be at most, (n, n', batch)."""
        return np.asarray(np.matmul(self.size, other.size.swapaxes(-1, -2)).transpose(1, 2, 0))
