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

_PRODUCTS = 2**23
"""Multiplications that one job should have at least, so that to wake a thread for it is not the cost."""

_TILE = 8
"""Rows that the product takes together."""


class Gradient:
    """Cotangents (steps, batch, G) of all sums times what the weights multiplied.

    Whole strips of h (steps, batch, n) are read where they lie. What is left of it, x (steps, batch,
    input_size) and the one of the bias are few: they lie side by side in an array of their own, and the
    cotangents are what is read in strips beside them.
    """

    def __init__(self, weights: Weights, cotangents: Array, h: Array, x: Array) -> None:
        from gradsim.contracts.dense.parts import STRIP_BYTES  # with numba, which need not be there

        self.weights = weights
        count = cotangents.shape[0] * cotangents.shape[1]  # -1 would not do for arrays of no size
        self._cotangents = _as_strips(cotangents.reshape(count, cotangents.shape[2]))
        self._width, n = STRIP_BYTES // cotangents.itemsize, h.shape[-1]
        whole = n - n % self._width
        self._h = _as_strips(h[..., :whole].reshape(count, whole))
        parts = h[..., whole:].reshape(count, n - whole), x.reshape(count, x.shape[-1])
        left, of_x = n - whole, x.shape[-1]
        self._places = slice(0, left), slice(left, left + of_x), left + of_x
        self._rest = np.zeros((count, -(-(left + of_x + 1) // _TILE) * _TILE), dtype=cotangents.dtype)
        for place, part in zip(self._places, (*parts, 1), strict=True):
            self._rest[:, place] = part

    def fill(self, found: Params, parallel: Parallel) -> None:
        """Write the gradient of all terms."""
        cotangents, h, rest = self._cotangents, self._h, self._rest
        run, (count, total) = gradient_kernel(cotangents.dtype), cotangents.shape
        by_h = np.zeros((total, h.shape[1]), dtype=cotangents.dtype)
        by_rest = np.zeros((rest.shape[1], total), dtype=cotangents.dtype)

        def job(sums: slice) -> None:
            first = max(sums.start, self.weights.column)  # sums before see no state
            if first < sums.stop:
                run(cotangents, h, by_h, first, sums.stop)
            end = sums.stop - sums.stop % self._width
            strips, beyond = slice(sums.start, end), slice(end, sums.stop)
            run(rest, cotangents[:, strips], by_rest[:, strips], 0, len(by_rest))
            by_rest[:, beyond] = rest.T @ cotangents[:, beyond]

        least = max(1, total // 8, _PRODUCTS // max(1, count * (h.shape[1] + rest.shape[1])))
        parallel([partial(job, sums) for sums in slices(total, -(-least // self._width) * self._width)])
        left, x, one = (by_rest[place] for place in self._places)
        made = {"h": np.concatenate((by_h, left.T), axis=1), "x": x.T, "1": one}
        for term in self.weights.terms:
            found[term.param][term.rows] = made[term.factor][term.columns]


def _as_strips(flat: Array) -> Array:
    """What can be read in strips where it lies, with its numbers in a row; a copy of what cannot."""
    return flat if flat.strides[1] == flat.itemsize else flat.copy()
