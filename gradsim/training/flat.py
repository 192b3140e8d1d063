"""All parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise

import numpy as np

from gradsim.types import Array, Params

_SMALL = 1e-280
"""Squares below this may have lost digits."""


class Flat:
    """Where each parameter lies in the vector of all of them."""

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self.shapes = dict(shapes)
        ends = accumulate((math.prod(s) for s in shapes.values()), initial=0)
        self.slices = {n: slice(*ends) for n, ends in zip(shapes, pairwise(ends), strict=True)}

    @property
    def size(self) -> int:
        """The length of the vector."""
        return sum(s.stop - s.start for s in self.slices.values())

    def joined(self, params: Mapping[str, Array], dtype: np.dtype) -> Array:
        """The vector of some parameters or their gradients."""
        vector = np.empty(self.size, dtype=dtype)
        for name, part in self.slices.items():
            vector[part] = params[name].ravel()
        return vector

    def views(self, vector: Array) -> Params:
        """The parameters, as views of the vector."""
        return {n: vector[part].reshape(self.shapes[n]) for n, part in self.slices.items()}

    def norms(self, vector: Array) -> Array:
        """The Euclidean norm of each parameter, float64, shape (param,)."""
        wide = vector.astype(np.float64)
        return np.array([norm(wide[part]) for part in self.slices.values()])


def norm(x: Array) -> float:
    """The Euclidean norm of a float64 vector, also where squares leave the range; NaN or inf as in it."""
    with np.errstate(over="ignore", invalid="ignore"):
        square = float(x @ x)
    if math.isfinite(square) and square > _SMALL:
        return math.sqrt(square)
    top = float(np.abs(x).max(initial=0.0))
    return top * float(np.linalg.norm(x / top)) if top > 0 and math.isfinite(top) else top
