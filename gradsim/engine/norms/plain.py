"""Products of blocks of any size in NumPy, in the dtype of the run, for many batch elements at once."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from gradsim.engine.jacobians import SMALL
from gradsim.engine.norms.ends import RELIABLE, Ends, Grams, Span, pairs_of, spans
from gradsim.machine import accelerator
from gradsim.numerics.scaled import KEEP, Scaled, top
from gradsim.types import Array

_PACKED = 32
"""Gram matrices of larger blocks are as quick by a library of matrix products."""

_AT_ONCE = 2**22
"""Elements of the pairs that are multiplied out in one go."""


class Plain(Ends):
    """In NumPy. Products are (batch, g, time, k, k), exponents (batch, g, time, 1, 1)."""

    def __init__(self, blocks: Array) -> None:
        matrix = blocks.transpose(1, 2, 0, 3, 4)
        given = Scaled(matrix, np.zeros((*matrix.shape[:3], 1, 1), dtype=np.int32))
        self.steps = given
        if blocks.shape[-1] <= SMALL or not _in_range(_squared(matrix), blocks.itemsize):
            self.steps = _like(given)
            self.steps[...] = given
            _settle(self.steps)
        self.after, self.before = _like(given), _like(given)
        self.reliable = RELIABLE[self.steps.mantissa.itemsize] * (blocks.shape[-1] > 1)
        packs = SMALL < blocks.shape[-1] <= _PACKED
        self.kernels: Any = accelerator.kernels("gradsim.engine.norms.gram_kernels") if packs else None

    def multiply_out(self, width: int, squares: Array, exponents: Array) -> None:
        """From the last source of each interval back, all intervals at once."""
        for span in spans(squares.shape[-1] - 1, width):
            rows, columns = (1, span.length + 1), (0, span.length)
            lower = np.tri(span.length, dtype=bool)
            for whole, found in zip((squares, exponents), self._multiplied_out(span), strict=True):
                np.copyto(pairs_of(whole, span, rows, columns), found, where=lower)

    def _multiplied_out(self, span: Span) -> tuple[Array, Array]:
        """Squared norms (batch, interval, time, source) and their exponents."""
        steps, after, before = (_split(x, span) for x in (self.steps, self.after, self.before))
        squares = np.zeros((len(steps.mantissa), span.count, span.length, span.length))
        exponents = np.zeros(squares.shape, dtype=np.int32)
        # Product t of `after` starts at k, and is multiplied from the right as k goes back to the start.
        for k in range(span.length - 1, -1, -1):
            if k < span.length - 1:
                _multiply(after[:, :, :, k + 1 :], steps[:, :, :, k])
            after[:, :, :, k] = steps[:, :, :, k]
            squares[:, :, k:, k], exponents[:, :, k:, k] = _norms(after[:, :, :, k:])
            before[:, :, :, k] = _transposed(after[:, :, :, -1])
        return squares, exponents

    def _ends(self, span: Span) -> tuple[Scaled, Scaled]:
        return _split(self.after, span), _split(self.before, span)

    def grams(self, span: Span, width: int) -> tuple[Grams, Grams]:
        """Brings the products into range, too."""
        if self.kernels is not None:
            later, earlier = _halves(span, width)
            return self._packed(self.after, later, 2.0), self._packed(self.before, earlier, 1.0)
        after, before = self._ends(span)
        return _grams(after[:, :, :, width:]), _grams(before[:, :, :, :width])

    def _packed(self, products: Scaled, times: Array, beside: float) -> Grams:
        """Upper triangles, compiled, of products at these times (interval, time); see the kernel."""
        batch, groups, _, k, _ = products.mantissa.shape
        count = -(-times.size // 8) * 8
        matrix = np.empty((batch, k * (k + 1) // 2, groups, count))
        trace, tops = np.empty((batch, groups, count)), np.empty((batch, count), np.int32)
        keep = 4.0 ** KEEP[products.mantissa.itemsize]
        arrays = products.mantissa, products.exponent[..., 0, 0], np.resize(times, count)
        self.kernels.grams(*arrays, keep, beside, matrix, trace, tops)
        matrix, trace, tops = (
            x[..., : times.size].reshape(*x.shape[:-1], *times.shape) for x in (matrix, trace, tops)
        )
        matrix = matrix.reshape(batch, -1, *times.shape).transpose(0, 2, 3, 1)
        return Grams(matrix, trace.transpose(0, 2, 3, 1), tops)

    def multiply_pairs(self, span: Span, width: int, chosen: Array, squares: Array, exponents: Array) -> None:
        """Many at a time."""
        after, before = self._ends(span)
        # Copies of both factors of every pair: so only so many at a time.
        pairs = np.argwhere(chosen)
        each = max(1, _AT_ONCE // after.mantissa[0, :, 0, 0].size)
        for n in range(0, len(pairs), each):
            b, i, t, k = pairs[n : n + each].T
            products, right = after[b, :, i, width + t], _transposed(before[b, :, i, k])
            products = Scaled(_times(products.mantissa, right.mantissa), products.exponent + right.exponent)
            squares[b, i, t, k], exponents[b, i, t, k] = _norms(products)

    def extend(self, span: Span, width: int) -> None:
        """The joint intervals at both ends of time grow on one side only."""
        after, before = self._ends(span)
        first, last = int(span.start == 0), span.count - int(span.stop == self.steps.mantissa.shape[2])
        # What multiplies is the product of the whole other half, which lies at the middle.
        if first < span.count:
            _extend(after[:, :, first:, width:], after[:, :, first:, width - 1])
        if last:
            _extend(before[:, :, :last, :width], before[:, :, :last, width])


def _halves(span: Span, width: int) -> tuple[Array, Array]:
    """The steps of the second halves of intervals, which follow `width` others, and of the first ones."""
    steps = np.arange(span.start, span.stop).reshape(span.count, span.length)
    return steps[:, width:], steps[:, :width]


# What `Plain` does with products (batch, g, ..., k, k) and their exponents (batch, g, ..., 1, 1).


def _like(products: Scaled) -> Scaled:
    """Room for as many. Large blocks lie one after the other in memory, so that those of all times are the
    rows of one matrix; of small ones, in float64, the same element of all blocks does.
    """
    batch, groups, times, k, _ = products.mantissa.shape
    exponent = np.zeros_like(products.exponent)
    if k > SMALL:
        return Scaled(np.empty((batch, groups, times, k, k), products.mantissa.dtype), exponent)
    return Scaled(np.empty((k, k, batch, times, groups)).transpose(2, 4, 3, 0, 1), exponent)


def _split(products: Scaled, span: Span) -> Scaled:
    """A view of a span of times as its intervals: (batch, g, interval, time, ...)."""
    mantissa, exponent = products.mantissa[:, :, span.steps], products.exponent[:, :, span.steps]
    shape = *mantissa.shape[:2], span.count, span.length
    return Scaled(mantissa.reshape(*shape, *mantissa.shape[-2:]), exponent.reshape(*shape, 1, 1))


def _transposed(products: Scaled) -> Scaled:
    return Scaled(products.mantissa.swapaxes(-1, -2), products.exponent)


def _multiply(products: Scaled, right: Scaled) -> None:
    """Multiply the products of all times by one matrix (batch, g, ..., k, k), in place."""
    matrix, k = products.mantissa, products.mantissa.shape[-1]
    if k > SMALL:
        rows = matrix.reshape(*matrix.shape[:-3], -1, k)
        matrix[...] = np.matmul(rows, right.mantissa).reshape(matrix.shape)
    else:
        matrix[...] = _times(matrix, right.mantissa[..., None, :, :])
    products.exponent[...] += right.exponent[..., None, :, :]


def _extend(products: Scaled, half: Scaled) -> None:
    _settle(half)
    _multiply(products, half)


def _times(a: Array, b: Array) -> Array:
    """Products of blocks; small ones element by element, which are long vectors."""
    k = a.shape[-1]
    if k > SMALL:
        return np.asarray(np.matmul(a, b))
    return np.asarray(sum(a[..., :, d, None] * b[..., None, d, :] for d in range(k)))


def _squared(blocks: Array) -> Array:
    """Squared Frobenius norms (...) of blocks; 0 or infinite where the dtype cannot hold them."""
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


def _settle(products: Scaled) -> Array:
    """Move what left the range into the exponents, in place. Squared norms of the mantissas."""
    squares, itemsize = _squared(products.mantissa), products.mantissa.itemsize
    if not _in_range(squares, itemsize):
        keep = 4.0 ** KEEP[itemsize]
        out = ~((squares > 1 / keep) & (squares < keep))
        some = products[out].settled((-2, -1), keep=0)
        products[out], squares[out] = some, _squared(some.mantissa)
    return squares


def _norms(products: Scaled) -> tuple[Array, Array]:
    """Squared norms and exponents, of all groups (axis 1) together. Settles the products, too."""
    squares, exponent = _settle(products), products.exponent[..., 0, 0]
    if squares.shape[1] == 1:
        return squares[:, 0], exponent[:, 0]
    there = Scaled(squares, 2 * exponent).common(1)
    return there.mantissa.sum(axis=1), there.exponent[:, 0] // 2


def _grams(products: Scaled) -> Grams:
    """Of products (batch, g, interval, time, k, k). Settles them, too."""
    trace = _settle(products).astype(np.float64, copy=False).transpose(0, 2, 3, 1)
    exponent = products.exponent[..., 0, 0].transpose(0, 2, 3, 1)
    wide, k = products.mantissa.astype(np.float64, copy=False), products.mantissa.shape[-1]
    shape = trace.shape[:-1]
    if k == 1:
        matrix = trace[..., None, :]
    elif k <= SMALL:
        matrix = np.empty((*shape, k * (k + 1) // 2, trace.shape[-1]))
        for n, (c, d) in enumerate(zip(*np.triu_indices(k), strict=True)):
            element = np.asarray(sum(wide[..., a, c] * wide[..., a, d] for a in range(k)))
            # An inner product counts what is off the diagonal twice.
            matrix[..., n, :] = element.transpose(0, 2, 3, 1) * (1 if c == d else math.sqrt(2))
    else:
        full = np.matmul(wide.swapaxes(-1, -2), wide)
        matrix = full.reshape(*full.shape[:-2], -1).transpose(0, 2, 3, 4, 1)
    highest = top(exponent, trace > 0, -1)
    if trace.shape[-1] > 1 and (down := np.where(trace > 0, exponent - highest, 0)).any():
        weight = np.ldexp(1.0, 2 * down)  # what underflows makes pairs doubtful
        matrix, trace = matrix * weight[..., None, :], trace * weight
    return Grams(matrix.reshape(*trace.shape[:-1], -1), trace, highest[..., 0])
