"""Step Jacobians whose powers of two are taken out, so that their products stay in range."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gradsim.numerics.scaled import KEEP, shift_of
from gradsim.types import Array

SMALL = 4
"""Diagonal blocks up to this size are multiplied element by element."""

_ROOM = {4: 24.0, 8: 232.0}
"""Powers of two that a product may move either way: its square is then in the range of the dtype, and so is
that square next to the least other one, with all digits that a sum of the two has."""


class ScaledJacobians:
    """J_t = blocks[t - 1] * 2**exponent[t - 1], shapes (step, batch, g, k, k) and (step, batch, g).

    `raw` are the step Jacobians as given, from step `first_step` and batch element `first_batch` of the run
    on; they are scaled when that is first asked for. `drift` knows those that are not given, too: so what is
    taken out does not depend on how a run is cut.
    """

    def __init__(
        self, raw: Array, first_step: int = 1, first_batch: int = 0, drift: Drift | None = None
    ) -> None:
        self.raw, self.first_step, self.first_batch = raw, first_step, first_batch
        self._given = drift

    def own(self, batch: slice) -> slice:
        """Where some batch elements of the run lie."""
        return slice(batch.start - self.first_batch, batch.stop - self.first_batch)

    def at(self, step: int, batch: slice) -> tuple[Array, Array | None]:
        """Blocks (batch, g, k, k) of a step and their exponents (batch, g), or None for zero."""
        t, here = step - self.first_step, self.own(batch)
        return self.blocks[t, here], self.exponent[t, here] if self.shifted[t] else None

    @cached_property
    def _drift(self) -> Drift:
        if self._given is not None:
            return self._given
        drift = Drift()
        drift.add(self.first_step, self.raw)
        return drift

    @property
    def safe(self) -> bool:
        """No product of any steps, whatever its length, leaves the range; else they have to be watched."""
        return self._drift.bounded

    @cached_property
    def exponent(self) -> Array:
        """The powers of two that are taken out."""
        if self.safe:  # then products need not be watched while they are multiplied
            exponent = np.zeros(self.raw.shape[:3], dtype=np.int32)
            here = slice(self.first_batch, self.first_batch + self.raw.shape[1])
            for step, taken in self._drift.taken.items():
                if 0 <= step - self.first_step < len(exponent):
                    exponent[step - self.first_step] = taken[here]
            return exponent
        # Only single Jacobians that are extremely large or small.
        flat = self.raw.reshape(*self.raw.shape[:-2], self.raw.shape[-1] ** 2)
        size = np.maximum(flat.max(axis=-1), -flat.min(axis=-1))
        return shift_of(size, KEEP[self.raw.itemsize] - 4)

    @cached_property
    def blocks(self) -> Array:
        """What is left."""
        if not self.exponent.any():
            return self.raw
        return np.asarray(np.ldexp(self.raw, -self.exponent[..., None, None]))

    @cached_property
    def shifted(self) -> Array:
        """Where an exponent is not zero, (step,)."""
        return np.asarray(self.exponent.any(axis=(1, 2)))


class Drift:
    """Exponents that keep all products of small blocks in range, found from the first step on.

    The logarithm of a product of steps k+1..t lies between the sums of those of the smallest and the
    largest singular values. Both sums, less the exponents so far, stay within half of the room either way, so
    that every difference of two of them stays within all of it.

    `taken`: (batch, g) by step, where there are any. `bounded`: whether that did it so far.
    """

    def __init__(self) -> None:
        self.taken: dict[int, Array] = {}
        self.bounded = True
        self._reach: tuple[Array, Array] | None = None

    def add(self, first: int, blocks: Array) -> None:
        """Take steps (step, batch, g, k, k) from `first` on, which come in order."""
        # Only of such blocks singular values are cheap enough to know them all.
        if not self.bounded or blocks.shape[-1] > 2:
            self.bounded = False
            return
        low, high = _log2_singular_values(blocks)
        self.bounded = bool(np.isfinite(low).all())
        least, most = self._reach or np.zeros((2, *blocks.shape[1:3]))
        half = _ROOM[blocks.itemsize] / 2
        for t in range(len(blocks) if self.bounded else 0):
            least, most = least + low[t], most + high[t]
            if _largest(least, most) > half:
                # To the middle, which leaves most room both ways.
                self.taken[first + t] = taken = np.rint((least + most) / 2).astype(np.int32)
                least, most = least - taken, most - taken
                if _largest(least, most) > half:
                    self.bounded = False
                    break
        self._reach = least, most


def _largest(least: Array, most: Array) -> float:
    return float(max(np.abs(least).max(), np.abs(most).max()))


def _log2_singular_values(blocks: Array) -> tuple[Array, Array]:
    """log2 of the smallest and largest singular value of blocks of size 1 or 2."""
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        if blocks.shape[-1] == 1:
            size = np.log2(np.abs(blocks[..., 0, 0].astype(np.float64)))
            return size, size
        b = blocks.astype(np.float64)
        square = np.sum(b * b, axis=(-1, -2))
        determinant = np.abs(b[..., 0, 0] * b[..., 1, 1] - b[..., 0, 1] * b[..., 1, 0])
        gap = np.sqrt(np.maximum(square * square - 4 * determinant * determinant, 0))
        largest = np.log2((square + gap) / 2) / 2
        return np.log2(determinant) - largest, largest
