"""Independent Gaussian weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer


@dataclass(frozen=True, eq=False)
class Gaussian(Initializer):
    """Independent entries N(0, 1 / columns), so that W x is about as large as x.

    The eigenvalues of a square weight fill the unit disc uniformly as n grows (Girko 1985, Circular law;
    Ginibre 1965), and its largest singular value is near 2. Biases are N(0, 1 / n).
    """

    name = "gaussian"

    def weight(self, rng, shape):
        return rng.standard_normal(shape) / np.sqrt(shape[-1])

    def bias(self, rng, shape, keeps):
        return rng.standard_normal(shape) / np.sqrt(shape[-1])
