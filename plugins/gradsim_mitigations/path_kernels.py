"""Influence along a few paths, in compiled loops. They need numba: see `gradsim.machine.accelerator`."""

from __future__ import annotations

import numpy as np
from numba import njit

_WIDTH = 256
"""Columns that go through all steps together: those of a hundred components stay in cache."""


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def along(sources, slopes, influence, rows, columns, added, direct, gradient):
    """Carry an influence (batch, r, c) through some steps, in place, and add up q M to the gradient (c).

    Component i takes `slopes` (steps, batch, r, paths) of its `sources` (r, paths). I is `added`
    (steps, batch, ones) at some rows and columns, in the order of the columns; `direct` (steps, batch, r): q.
    """
    steps, batch, r, paths = slopes.shape
    old, new = np.zeros((2, r, _WIDTH), influence.dtype)
    seen = np.empty(_WIDTH, influence.dtype)
    for b in range(batch):
        first = 0
        for start in range(0, influence.shape[2], _WIDTH):
            width = min(_WIDTH, influence.shape[2] - start)
            last = first
            while last < len(columns) and columns[last] < start + width:
                last += 1
            old[:, :width], seen[:] = influence[b, :, start : start + width], 0
            for t in range(steps):
                for i in range(r):
                    out, source, slope = new[i], old[sources[i, 0]], slopes[t, b, i, 0]
                    for c in range(_WIDTH):
                        out[c] = slope * source[c]
                    for j in range(1, paths):
                        source, slope = old[sources[i, j]], slopes[t, b, i, j]
                        for c in range(_WIDTH):
                            out[c] += slope * source[c]
                for one in range(first, last):
                    new[rows[one], columns[one] - start] += added[t, b, one]
                for i in range(r):
                    source, slope = new[i], direct[t, b, i]
                    if slope != 0:
                        for c in range(_WIDTH):
                            seen[c] += slope * source[c]
                old, new = new, old
            influence[b, :, start : start + width] = old[:, :width]
            gradient[start : start + width] += seen[:width]
            first = last
