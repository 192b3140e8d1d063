"""The norms of all pairs of a run, by the way that suits its blocks, in jobs for several threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from gradsim.engine.layout import PANEL, cumulated, joined_together, parts
from gradsim.engine.norms.diagonal import Diagonal
from gradsim.engine.norms.finish import finish
from gradsim.engine.norms.tree import join
from gradsim.machine import accelerator
from gradsim.machine.workers import Job
from gradsim.types import Array


@dataclass(frozen=True)
class Room:
    """Step Jacobians (step, batch, g, k, k) of some batch elements, and where their norms and log10 belong.

    Both (time, source, batch).
    """

    blocks: Array
    norms: Array
    logs: Array

    def of(self, elements: slice) -> Room:
        """A part of it."""
        return Room(self.blocks[:, elements], self.norms[..., elements], self.logs[..., elements])


def norm_jobs(
    room: Room,
    each: int,
    check: Callable[[], None] = lambda: None,
    done: Callable[[float], None] = lambda elements: None,
) -> Iterator[list[Job]]:
    """Jobs that write the norms of all P(t, k) and their log10; NaN for t < k.

    One list after the other; those of a list may run at one time. `each` elements at a time are joined by
    halving. Jobs call `check`, which may raise to leave, and say of how many batch elements they are `done`.
    """
    steps, batch, groups, k, _ = room.blocks.shape
    kernels = accelerator.kernels("gradsim.engine.norms.diagonal_kernels") if k <= 2 else None
    if kernels is None:
        yield from _joined(room, each, check, done)
        return
    for part in parts(slice(0, batch), cumulated(steps, batch, groups, each)):
        some = room.of(part)
        diagonal = Diagonal(kernels, some.blocks, some.norms, some.logs)
        yield diagonal.begun()
        if not diagonal.fits.any():
            yield from _joined(some, each, check, done)
            continue
        yield diagonal.filled(done)
        # Blocks of two that do not only rotate: element by element, as these may differ in that.
        for b in np.flatnonzero(~diagonal.fits):
            yield from _joined(some.of(slice(b, b + 1)), 1, check, done)


def _joined(
    room: Room, each: int, check: Callable[[], None], done: Callable[[float], None]
) -> Iterator[list[Job]]:
    """By halving: squares of as many elements as there is memory for, and then what is made of them."""
    times, batch = len(room.norms), room.blocks.shape[1]
    for part in parts(slice(0, batch), joined_together(times, batch, each)):
        halves = _Halves(room.of(part), check, done)
        yield [partial(halves.join, some) for some in parts(slice(0, part.stop - part.start), each)]
        yield [partial(halves.write, rows) for rows in parts(slice(0, times), PANEL)]


class _Halves:
    """Squares of norms, and their exponents (batch, time, source)."""

    def __init__(self, room: Room, check: Callable[[], None], done: Callable[[float], None]) -> None:
        self.room, self.check, self.done = room, check, done
        times, _, batch = room.norms.shape
        self.squares, self.exponents = (
            np.ones((batch, times, times)),
            np.zeros((batch, times, times), np.int32),
        )

    def join(self, elements: slice) -> None:
        """Make those of some elements."""
        join(self.room.blocks[:, elements], self.squares[elements], self.exponents[elements], self.check)
        self.done(elements.stop - elements.start)

    def write(self, rows: slice) -> None:
        """Make norms of them, at some times."""
        out = self.room.norms[rows], self.room.logs[rows]
        finish(self.squares[:, rows], self.exponents[:, rows], rows.start, *out)
