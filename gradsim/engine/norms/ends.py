"""Products to both ends of intervals of time, and their Gram matrices: what a tree of norms needs of them.

See `tree` for what they are for. `plain` does blocks of any size, in the dtype of the run, for many batch
elements at once. `compiled` does small blocks, in float64, where NumPy would spend its time on calls.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from gradsim.numerics.scaled import LOWEST
from gradsim.types import Array

RELIABLE = {4: 1e-9, 8: 1e-5}
"""||A B||^2 over ||A||^2 ||B||^2 (by bytes of the dtype), below which a pair is multiplied out: the inner
product has lost so many digits of float64 that fewer are left than A and B have."""


@dataclass(frozen=True)
class Span:
    """Steps start..stop-1, counted from 0, in so many intervals of one length."""

    start: int
    stop: int
    count: int

    @property
    def length(self) -> int:
        """Steps of an interval."""
        return (self.stop - self.start) // self.count

    @property
    def steps(self) -> slice:
        """All of them."""
        return slice(self.start, self.stop)


def spans(steps: int, length: int) -> Iterator[Span]:
    """Time cut into intervals of a length, and what is left as another."""
    whole = steps // length * length
    if whole:
        yield Span(0, whole, whole // length)
    if whole < steps:
        yield Span(whole, steps, 1)


def pairs_of(pairs: Array, span: Span, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
    """A view of pairs (batch, time, source) by interval, from its start: (batch, interval, row, column)."""
    begun = pairs[:, span.start + rows[0] :, span.start + columns[0] :]
    batch, time, source = pairs.strides
    shape = len(pairs), span.count, rows[1] - rows[0], columns[1] - columns[0]
    return as_strided(begun, shape, (batch, span.length * (time + source), time, source))


@dataclass(frozen=True)
class Grams:
    """X^T X of products X over 4**top, one exponent for all groups of each.

    `matrix` (batch, interval, time, ...): flat, so that inner products are those of vectors. `trace` (batch,
    interval, time, g). `top` (batch, interval, time): LOWEST where a product is exactly zero.
    """

    matrix: Array
    trace: Array
    top: Array

    def __getitem__(self, key: Any) -> Grams:
        return Grams(self.matrix[key], self.trace[key], self.top[key])

    @property
    def alive(self) -> Array:
        """Where a product is not exactly zero."""
        return np.asarray(self.top > LOWEST)

    @property
    def total(self) -> Array:
        """The traces of all groups together."""
        return np.asarray(self.trace.sum(axis=-1))


class Ends(ABC):
    """Of each interval the products from its start and to its end, multiplied in place as intervals grow.

    `after`: P(t, start) at each t of the interval but its start. `before`: the transposed P(end, k) at
    each k but its end. The first interval of all needs no `after`, the last no `before`.
    """

    reliable: float
    """See `_RELIABLE`; 0 for blocks of one element, whose sums of squares lose nothing."""

    @abstractmethod
    def multiply_out(self, width: int, squares: Array, exponents: Array) -> None:
        """All products within intervals of `width` steps; writes their norms (batch, time, source)."""

    @abstractmethod
    def grams(self, span: Span, width: int) -> tuple[Grams, Grams]:
        """Of A after the middle of each interval, which follows `width` steps, and of B^T before it."""

    @abstractmethod
    def multiply_pairs(self, span: Span, width: int, chosen: Array, squares: Array, exponents: Array) -> None:
        """Multiply out chosen pairs (batch, interval, time, source) across middles; writes their norms."""

    @abstractmethod
    def extend(self, span: Span, width: int) -> None:
        """From the ends of both halves of each interval to its own ends."""
