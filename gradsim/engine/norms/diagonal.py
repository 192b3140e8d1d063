"""Norms of all products of numbers, or of blocks that rotate and scale: quotients of cumulative products.

With s_j(t) the square of a number, or a^2 + b^2 of a block [[a, -b], [b, a]], and c_j(t) their product up
to time t, ||P(t, k)||^2 is the sum over units of c_j(t) / c_j(k), twice for blocks. For a time r

    c_j(t) / c_j(k) = [c_j(t) / c_j(r)] [c_j(r) / c_j(k)],

so the sums of many pairs are one matrix product. Every c_j has an exponent of its own, of unlimited range: no
logarithm loses digits. Rows and columns are scaled by their largest element; what underflows beside it is
nothing, unless the whole sum is tiny, and such sums are made again. A zero is a jump of the exponent that no
other number makes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType

import numpy as np

from gradsim.engine.layout import PANEL, TOGETHER, parts
from gradsim.machine.workers import Job
from gradsim.types import Array

_LEAF = 8
"""Intervals of so many times are not halved."""


class Diagonal:
    """The norms of some batch elements, (time, source, batch), from steps (step, batch, g, k, k)."""

    def __init__(self, kernels: ModuleType, blocks: Array, norms: Array, logs: Array) -> None:
        self.kernels, self.blocks, self.norms, self.logs = kernels, blocks, norms, logs
        steps, batch, units, _, _ = blocks.shape
        shape = batch, steps + 1, units
        self.size, self.inverse, self.exponent = np.empty(shape), np.empty(shape), np.empty(shape, np.int64)
        self.fits = np.zeros(batch, dtype=bool)

    def begun(self) -> list[Job]:
        """What comes first. It finds out which elements fit: those whose blocks only rotate and scale."""
        return [partial(self._cumulate, b) for b in range(len(self.fits))]

    def filled(self, done: Callable[[float], None]) -> list[Job]:
        """What comes then: the longest first."""
        times, batch = len(self.norms), len(self.fits)
        return [
            partial(self._fill, range(t, min(t + PANEL, times)), part, done)
            for t in reversed(range(0, times, PANEL))
            for part in parts(slice(0, batch), TOGETHER)
        ]

    def _element(self, b: int) -> tuple[Array, Array, Array]:
        return self.size[b], self.inverse[b], self.exponent[b]

    def _cumulate(self, b: int) -> None:
        self.fits[b] = self.kernels.cumulate(self.blocks[:, b], *self._element(b))

    def _fill(self, times: range, batch: slice, done: Callable[[float], None]) -> None:
        """All pairs of some times."""
        fits, units = self.fits[batch], self.size.shape[2]
        shape = len(times), len(fits), times.stop
        squares, powers = np.empty(shape), np.empty(shape, np.int32)
        left, right = np.empty((len(times), units)), np.empty((times.stop, units))
        for n in np.flatnonzero(fits):
            steps = self._element(batch.start + n)
            for rows, columns, middle in self._tiles(steps[2], times):
                at = (
                    slice(rows.start - times.start, rows.stop - times.start),
                    n,
                    slice(columns.start, columns.stop),
                )
                a, b = left[: len(rows)], right[: len(columns)]
                self.kernels.factors(*steps, rows.start, columns.start, middle, a, b, powers[at])
                np.matmul(a, b.T, out=squares[at])
        squares[:, ~fits], powers[:, ~fits] = 1, 0
        doubled, out = int(self.blocks.shape[-1] == 2), (self.norms[..., batch], self.logs[..., batch])
        steps = self.size[batch], self.inverse[batch], self.exponent[batch]
        self.kernels.finish(squares, powers, times.start, doubled, *steps, *out)
        done(fits.sum() * (times.stop**2 - times.start**2) / len(self.norms) ** 2)

    def _tiles(self, exponent: Array, times: range) -> Iterator[tuple[range, range, int]]:
        """Times and sources that have all pairs of these times, and a time between them, or nearly."""
        if self.kernels.mild(exponent, times.start, times.stop):
            yield times, range(times.stop), times.start
        else:
            yield times, range(times.start), times.start
            yield from self._halved(exponent, times)

    def _halved(self, exponent: Array, times: range) -> Iterator[tuple[range, range, int]]:
        """Those of the pairs within an interval."""
        if len(times) <= _LEAF or self.kernels.mild(exponent, times.start, times.stop):
            yield times, times, times.start
        else:
            half = len(times) // 2
            yield times[half:], times[:half], times[half]
            yield from self._halved(exponent, times[:half])
            yield from self._halved(exponent, times[half:])
