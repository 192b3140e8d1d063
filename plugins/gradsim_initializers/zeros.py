"""Zeros."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer


@dataclass(frozen=True, eq=False)
class Zeros(Initializer):
    """All 0: a bias that favours nothing, or units that do not see each other at first."""

    name = "zeros"

    def weight(self, rng, shape):
        return np.zeros(shape)

    def bias(self, rng, shape, keeps):
        return np.zeros(shape)
