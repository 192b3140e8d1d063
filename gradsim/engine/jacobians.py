"""Step Jacobians whose powers of two are taken out, so that their products stay in range."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from gradsim.numerics.scaled import KEEP, shift_of
from gradsim.types import Array

SMALL = 4
"""Diagonal blocks up to this size are multiplied element by element."""

_ROOM = {4: 56.0, 8: 480.0}
"""Powers of two that a product may move either way while its square stays in the range of the dtype."""


class ScaledJacobians:
    """J_t = blocks[t - 1] * 2**exponent[t - 1], shapes (step, batch, g, k, k) and (step, batch, g).

    `raw` are the step Jacobians as given, from step `first_step` and batch element `first_batch` of the run
    on; they are scaled when that is first asked for.
    """

    def __init__(self, raw: Array, first_step: int = 1, first_batch: int = 0) -> None:
        self.raw, self.first_step, self.first_batch = raw, first_step, first_batch

    def own(self, batch: slice) -> slice:
        """Where some batch elements of the run lie."""
        return slice(batch.start - self.first_batch, batch.stop - self.first_batch)

    def at(self, step: int, batch: slice) -> tuple[Array, Array | None]:
        """Blocks (batch, g, k, k) of a step and their exponents (batch, g), or None for zero."""
        t, here = step - self.first_step, self.own(batch)
        return self.blocks[t, here], self.exponent[t, here] if self.shifted[t] else None

    @cached_property
    def _drift(self) -> Array | None:
        # Only there singular values are cheap enough to know them all.
        return _drift(self.raw) if self.raw.shape[-1] <= 2 else None

    @property
    def safe(self) -> bool:
        """No product of any steps, whatever its length, leaves the range; else they have to be watched."""
        return self._drift is not None

    @cached_property
    def exponent(self) -> Array:
        """The powers of two that are taken out."""
        if self._drift is not None:
            return self._drift  # then products need not be watched while they are multiplied
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


def _drift(blocks: Array) -> Array | None:
    """Exponents that keep all products of small blocks in range, or None if there are none.

    The logarithm of a product of steps k+1..t lies between the sums of those of the smallest and the
    largest singular values. Both sums, less the exponents so far, stay within a quarter of the room
    either way, so that every difference of two of them stays within half.
    """
    low, high = _log2_singular_values(blocks)
    if not np.isfinite(low).all():
        return None
    exponent = np.zeros(blocks.shape[:-2], dtype=np.int32)
    least, most = np.zeros((2, *blocks.shape[1:3]))
    quarter = _ROOM[blocks.itemsize] / 4
    for t in range(len(blocks)):
        least, most = least + low[t], most + high[t]
        if max(np.abs(least).max(), np.abs(most).max()) > quarter:
            exponent[t] = np.rint((least + most) / 2)  # to the middle, which leaves most room both ways
            least, most = least - exponent[t], most - exponent[t]
            if max(np.abs(least).max(), np.abs(most).max()) > quarter:
                return None
    return exponent


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
