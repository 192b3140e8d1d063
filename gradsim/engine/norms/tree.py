"""Frobenius norms of all Jacobian products without making all products.

For a time r between k and t, P(t, k) = A B with A = P(t, r) and B = P(r, k), and

    ||A B||_F^2 = <A^T A, B B^T>,

an inner product of two m x m matrices, one of t and one of k. So the norms of all pairs on either
side of r are one matrix product of such Gram matrices, 2 m^2 operations a pair instead of 2 m^3.

Short intervals of time are multiplied out. Then neighbours are joined, two and two, up to the whole: the
pairs across come from Gram matrices, and the products to the ends of the joint interval from those
to the ends of its halves. This is where time goes down from T^2 m^3 to T^2 m^2 + T log(T) m^3.

Gram matrices are made and multiplied in float64. Where A and B nearly annihilate each other the inner
product loses digits; such pairs, and those that leave the range, are multiplied out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from gradsim.engine.jacobians import SMALL, ScaledJacobians
from gradsim.engine.norms.chains import Chain, first_width, folded, multiply
from gradsim.engine.norms.small import SmallNorms
from gradsim.machine import accelerator
from gradsim.numerics.scaled import LEAST_SQUARE, LOWEST
from gradsim.types import Array

_RELIABLE = {4: 1e-9, 8: 1e-5}
"""||A B||^2 over ||A||^2 ||B||^2 (by bytes of the dtype), below which a pair is multiplied out."""

_AT_ONCE = 2**22
"""Elements of the pairs that are multiplied out in one go."""


def all_norms(
    jacobians: ScaledJacobians, batch: slice, check: Callable[[], None] = lambda: None
) -> tuple[Array, Array]:
    """Squared norms and exponents of the norms of all P(t, k), (time, source, batch); NaN for t < k.

    `check` is called now and then, and may raise to leave.
    """
    blocks = jacobians.raw[:, jacobians.own(batch)]
    steps, size, groups, k, _ = blocks.shape
    squares = np.full((size, steps + 1, steps + 1), np.nan)
    exponents = np.zeros(squares.shape, dtype=np.int32)
    diagonal = np.arange(steps + 1)
    squares[:, diagonal, diagonal] = groups * k
    kernels = accelerator.kernels("gradsim.engine.norms.kernels") if k <= SMALL else None
    if kernels:
        for b in range(size):
            SmallNorms(kernels, blocks[:, b], squares[b], exponents[b]).fill(check)
    else:
        _Tree(Chain.of(blocks), squares, exponents).fill(check)
    return squares.transpose(1, 2, 0), exponents.transpose(1, 2, 0)


class _Tree:
    """Intervals of `width` steps, and of each the products from its start and to its end.

    `after`: P(t, start) at each t of the interval but its start. `before`: the transposed P(end, k) at
    each k but its end. The first interval of all needs no `after`, the last no `before`.
    """

    def __init__(self, jacobians: Chain, squares: Array, exponents: Array) -> None:
        self.squares, self.exponents = squares, exponents
        self.jacobians = jacobians
        shape, block = jacobians.exponent.shape, jacobians.matrix.shape[-1]
        self.after, self.before = (Chain.empty(shape, block, jacobians.matrix.dtype) for _ in range(2))
        self.steps = shape[-1]
        self.width = first_width(self.steps)

    def fill(self, check: Callable[[], None]) -> None:
        """Write squared norms (batch, time, source) and their exponents; pairs t <= k are left alone."""
        for span, count in self._intervals(self.width):
            check()
            self._multiply_out(span, count)
        while self.width < self.steps:
            for span, count in self._intervals(2 * self.width):
                check()
                if span.stop - span.start > self.width:
                    self._join(span, count)
            self.width *= 2

    def _intervals(self, width: int) -> Iterator[tuple[slice, int]]:
        """Time cut into intervals of a width, and what is left as another: spans, and how many in each."""
        whole = self.steps // width * width
        if whole:
            yield slice(0, whole), whole // width
        if whole < self.steps:
            yield slice(whole, self.steps), 1

    def _multiply_out(self, span: slice, count: int) -> None:
        """All products within intervals, from the last source of each back."""
        steps, after, before = (x.split(span, count) for x in (self.jacobians, self.after, self.before))
        width = steps.exponent.shape[-1]
        squares = np.zeros((len(steps.exponent), count, width, width))
        exponents = np.zeros(squares.shape, dtype=np.int32)
        for k in range(width - 1, -1, -1):
            if k < width - 1:
                after[:, :, :, k + 1 :].multiply(steps[:, :, :, k])
            after[:, :, :, k].take(steps[:, :, :, k])
            products = after[:, :, :, k:]
            squares[:, :, k:, k], exponents[:, :, k:, k] = _summed(products.settle(), products.exponent)
            before[:, :, :, k].take(after[:, :, :, -1].transposed())
        squares, exponents = folded(squares, exponents)
        lower = np.tril_indices(width)
        for i in range(count):
            start = span.start + i * width
            at = (slice(None), start + 1 + lower[0], start + lower[1])
            self.squares[at] = squares[:, i][:, *lower]
            self.exponents[at] = exponents[:, i][:, *lower]

    def _join(self, span: slice, count: int) -> None:
        """Pairs across the middles of intervals; then the products to both ends of each."""
        width, every = self.width, (span.stop - span.start) // count
        after, before = self.after.split(span, count), self.before.split(span, count)
        rows, columns = after[:, :, :, width:], before[:, :, :, :width]
        squares, exponents = folded(*_across(rows, columns))
        for i in range(count):
            start = span.start + i * every
            at = (slice(None), slice(start + width + 1, start + every + 1), slice(start, start + width))
            self.squares[at], self.exponents[at] = squares[:, i], exponents[:, i]
        first, last = int(span.start == 0), count - int(span.stop == self.steps)
        if first < count:
            rows[:, :, first:].multiply(after[:, :, first:, width - 1].settled())
        if last:
            columns[:, :, :last].multiply(before[:, :, :last, width].settled())


def _summed(squares: Array, exponent: Array) -> tuple[Array, Array]:
    """Sum over the groups (axis 1) of squares * 4**exponent, over 4**top; and top."""
    if squares.shape[1] == 1:
        return squares[:, 0], exponent[:, 0]
    top = np.where(squares > 0, exponent, LOWEST).max(axis=1)
    down = np.clip(exponent - top[:, None], -1000, 0)
    return np.ldexp(squares, 2 * down).sum(axis=1), np.where(top == LOWEST, 0, top)


def _across(rows: Chain, columns: Chain) -> tuple[Array, Array]:
    """Squared norms (batch, interval, time, source) of products A B, A in rows, B^T in columns; exponents."""
    after, before = _Grams.of(rows), _Grams.of(columns)
    squares, bound = after.dot(before)
    exponents = after.top[..., :, None] + before.top[..., None, :]
    doubtful = squares < np.maximum(_RELIABLE[rows.matrix.itemsize] * bound, LEAST_SQUARE)
    doubtful &= after.alive[..., :, None] & before.alive[..., None, :]
    pairs = np.argwhere(doubtful)
    each = max(1, _AT_ONCE // rows.matrix[0, :, 0, 0].size)
    for n in range(0, len(pairs), each):
        b, i, t, k = pairs[n : n + each].T
        a, c = rows[b, :, i, t], columns[b, :, i, k]
        product = Chain(multiply(a.matrix, c.matrix.swapaxes(-1, -2)), a.exponent + c.exponent)
        squares[b, i, t, k], exponents[b, i, t, k] = _summed(product.settle(), product.exponent)
    return squares, exponents


@dataclass(frozen=True)
class _Grams:
    """X^T X of products X, with one exponent for all groups of each.

    `matrix` (batch, g, interval, time, k, k); `trace` (batch, g, interval, time); `top` (batch, interval,
    time); `alive` (batch, interval, time): not exactly zero.
    """

    matrix: Array
    trace: Array
    top: Array
    alive: Array

    @classmethod
    def of(cls, chain: Chain) -> _Grams:
        """Settles the chain, too."""
        trace = chain.settle().astype(np.float64, copy=False)
        matrix = chain.gram()
        some = trace > 0
        if trace.shape[1] == 1:
            return cls(matrix, trace, chain.exponent[:, 0].copy(), some[:, 0])
        top = np.where(some, chain.exponent, LOWEST).max(axis=1)
        down = np.where(some, np.maximum(chain.exponent - top[:, None], -1000), 0)
        if down.any():  # what underflows makes pairs doubtful
            weight = np.ldexp(1.0, 2 * down)
            matrix, trace = matrix * weight[..., None, None], trace * weight
        return cls(matrix, trace, np.where(top == LOWEST, 0, top), top > LOWEST)

    def dot(self, other: _Grams) -> tuple[Array, Array]:
        """All inner products (batch, interval, n, n'), and what they would be at most."""
        bound = _products(self.trace, other.trace)
        k = self.matrix.shape[-1]
        if k == 1:
            return bound, bound
        if k <= SMALL:
            squares = np.zeros_like(bound)
            for i, j in zip(*np.triu_indices(k), strict=True):
                squares += (1 + (i < j)) * _products(self.matrix[..., i, j], other.matrix[..., i, j])
            return squares, bound
        a, b = (x.matrix.reshape(*x.trace.shape, -1) for x in (self, other))
        return np.matmul(a, b.swapaxes(-1, -2)).sum(axis=1), bound


def _products(a: Array, b: Array) -> Array:
    """Sums over the groups: (batch, g, interval, n) and another to (batch, interval, n, n')."""
    return np.asarray(np.matmul(a.transpose(0, 2, 3, 1), b.transpose(0, 2, 1, 3)))
