"""The gradient of a dense cell over many steps, by a compiled product.

It takes half to nine tenths of the time of general ones, which first copy both of their factors, and of
which there would be three: with the state, the inputs, and for the bias.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from gradsim.contracts.dense.kernels import gradient_kernel
from gradsim.contracts.dense.weights import Weights, slices
from gradsim.contracts.trajectory import Parallel
from gradsim.types import Array, Params

_ROWS = 16
"""Sums whose gradient is one job, at least: a cache line of their cotangents."""


class Gradient:
    """Cotangents (steps, batch, G) of all sums times what the weights multiplied.

    Whole strips of h (steps, batch, n) are read where they lie. What is left of it, x (steps, batch,
    input_size) and the one of the bias lie side by side in an array of their own, filled up to strips.
    """

    def __init__(self, weights: Weights, cotangents: Array, h: Array, x: Array) -> None:
        from gradsim.contracts.dense.parts import STRIP_BYTES  # with numba, which need not be there

        self.weights = weights
        count = cotangents.shape[0] * cotangents.shape[1]  # -1 would not do for arrays of no size
        self._cotangents = cotangents.reshape(count, -1)
        width, n = STRIP_BYTES // cotangents.itemsize, h.shape[-1]
        whole = n - n % width
        self._h = h[..., :whole].reshape(count, whole)
        if self._h.strides[1] != self._h.itemsize:  # strips are read as they lie
            self._h = self._h.copy()
        beside = h[..., whole:].reshape(count, n - whole), x.reshape(count, x.shape[-1])
        parts = *beside, np.ones((count, 1), dtype=cotangents.dtype)
        ends = np.cumsum([part.shape[1] for part in parts])
        self._rest = np.zeros((count, -(-int(ends[-1]) // width) * width), dtype=cotangents.dtype)
        np.concatenate(parts, axis=1, out=self._rest[:, : ends[-1]])
        self._columns = [
            slice(int(end) - part.shape[1], int(end)) for part, end in zip(parts, ends, strict=True)
        ]

    def fill(self, found: Params, parallel: Parallel) -> None:
        """Write the gradient of all terms."""
        run, dtype = gradient_kernel(self._cotangents.dtype), self._cotangents.dtype
        total = self._cotangents.shape[1]
        by_h, by_rest = (np.zeros((total, f.shape[1]), dtype=dtype) for f in (self._h, self._rest))

        def job(rows: slice) -> None:
            first = max(rows.start, self.weights.column)  # sums before see no state
            if first < rows.stop:
                run(self._cotangents, self._h, by_h, first, rows.stop)
            run(self._cotangents, self._rest, by_rest, rows.start, rows.stop)

        parallel([partial(job, rows) for rows in slices(total, max(_ROWS, total // 8))])
        left, x, one = (by_rest[:, columns] for columns in self._columns)
        made = {"h": np.concatenate((by_h, left), axis=1), "x": x, "1": one[:, 0]}
        for term in self.weights.terms:
            found[term.param][term.rows] = made[term.factor][term.columns]
