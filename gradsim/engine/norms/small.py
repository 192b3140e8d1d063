"""Norms of all products of small diagonal blocks, with compiled arithmetic; see `norms` for the idea."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from gradsim.engine.norms.chains import first_width, folded
from gradsim.numerics.scaled import KEEP, LEAST_SQUARE, shift_of
from gradsim.types import Array

_RELIABLE = 1e-5
"""||A B||^2 over ||A||^2 ||B||^2, below which a pair is multiplied out."""


@dataclass(frozen=True)
class _Line:
    """Products of one batch element: `matrix` (time, k, k, g) times 2**`exponent` (time, g)."""

    matrix: Array
    exponent: Array

    @classmethod
    def of(cls, blocks: Array) -> _Line:
        """Step Jacobians (step, g, k, k), each block with its own power of two taken out if it is extreme."""
        matrix = np.ascontiguousarray(blocks.transpose(0, 2, 3, 1), dtype=np.float64)
        exponent = shift_of(np.abs(matrix).max(axis=(1, 2)), KEEP[4])
        if exponent.any():
            matrix = np.ldexp(matrix, -exponent[:, None, None])
        return cls(matrix, exponent)

    def like(self) -> _Line:
        """Room for as many products."""
        return _Line(np.empty_like(self.matrix), np.empty_like(self.exponent))

    def __getitem__(self, key: Any) -> _Line:
        return _Line(self.matrix[key], self.exponent[key])


class SmallNorms:
    """Norms of all pairs of one batch element, (time, source)."""

    def __init__(self, kernels: ModuleType, blocks: Array, squares: Array, exponents: Array) -> None:
        self.kernels, self.squares, self.exponents = kernels, squares, exponents
        self.jacobians = _Line.of(blocks)

    def fill(self, check: Callable[[], None]) -> None:
        """Write squared norms and their exponents; pairs t <= k are left alone."""
        steps = self.jacobians
        times, k, _, groups = steps.matrix.shape
        width = first_width(times)
        after, before = steps.like(), steps.like()
        chains = (after.matrix, after.exponent, before.matrix, before.exponent)
        self.kernels.multiply_out(steps.matrix, steps.exponent, *chains, width, self.squares, self.exponents)
        grams = _Grams.empty(times, k, groups)
        while width < times:
            check()
            self.kernels.grams(*chains, width, grams.matrix, grams.trace, grams.top)
            whole = times // (2 * width) * 2 * width
            self._join(after, before, grams[:whole], 0, width)
            if times - whole > width:
                self._join(after[whole:], before[whole:], grams[whole:], whole, width)
            self.kernels.extend(*chains, width)
            width *= 2

    def _join(self, after: _Line, before: _Line, grams: _Grams, first: int, width: int) -> None:
        """Pairs across the middles of joint intervals, all of one length, that follow `first`."""
        length = min(2 * width, len(grams.top))
        for n, (squares, exponents) in enumerate(grams.products(length, width)) if length else ():
            start = n * length
            rows, columns = slice(start + width, start + length), slice(start, start + width)
            self._mend(after[rows], before[columns], grams[rows], grams[columns], squares, exponents)
            at = (
                slice(first + rows.start + 1, first + rows.stop + 1),
                slice(first + start, first + columns.stop),
            )
            self.squares[at], self.exponents[at] = folded(squares, exponents)

    def _mend(
        self, rows: _Line, columns: _Line, a: _Grams, b: _Grams, squares: Array, exponents: Array
    ) -> None:
        """Multiply out the products A B, A in rows and B^T in columns, whose norms lost digits."""
        reliable = _RELIABLE * (a.matrix.shape[1] > 1)  # sums of squares of numbers lose none
        bound = reliable and reliable * a.largest * b.largest
        if squares.min() >= max(bound, LEAST_SQUARE):
            return
        doubtful = squares < np.maximum(reliable * (a.trace @ b.trace.T), LEAST_SQUARE)
        doubtful &= np.logical_and.outer(a.top > self.kernels.LOWEST, b.top > self.kernels.LOWEST)
        lines = rows.matrix, rows.exponent, columns.matrix, columns.exponent
        self.kernels.norms_of(*lines, *np.nonzero(doubtful), squares, exponents)


@dataclass(frozen=True)
class _Grams:
    """Gram matrices of products: `matrix` (time, k * (k + 1) / 2, g), `trace` (time, g), `top` (time,)."""

    matrix: Array
    trace: Array
    top: Array

    @classmethod
    def empty(cls, times: int, k: int, groups: int) -> _Grams:
        """Room for them."""
        matrix = np.empty((times, k * (k + 1) // 2, groups))
        return cls(matrix, np.empty((times, groups)), np.empty(times, dtype=np.int32))

    def __getitem__(self, key: slice) -> _Grams:
        return _Grams(self.matrix[key], self.trace[key], self.top[key])

    def products(self, length: int, width: int) -> Iterator[tuple[Array, Array]]:
        """Inner products of the last of each `length` matrices with the first `width` of them, exponents."""
        flat = self.matrix.reshape(len(self.top) // length, length, -1)
        top = self.top.reshape(-1, length)
        squares = np.matmul(flat[:, width:], flat[:, :width].swapaxes(1, 2))
        return zip(squares, top[:, width:, None] + top[:, None, :width], strict=True)

    @property
    def largest(self) -> float:
        """The largest trace of all groups together."""
        return float(self.trace.sum(axis=1).max())
