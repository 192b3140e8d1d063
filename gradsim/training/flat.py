"""All parameters as one vector."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import accumulate, pairwise

import numpy as np

from gradsim.numerics.scaled import LEAST_SQUARE, euclidean
from gradsim.types import Array, Params


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
        with np.errstate(all="ignore"):
            squares = np.add.reduceat(wide * wide, [part.start for part in self.slices.values()])
        if squares.min() > LEAST_SQUARE and np.isfinite(squares).all():
            return np.sqrt(squares)
        return np.array([euclidean(vector[part]) for part in self.slices.values()])
