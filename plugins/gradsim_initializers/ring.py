"""Eigenvalues in a ring of the complex plane."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Initializer
from gradsim.errors import InputError
from gradsim.types import PositiveFloat, Probability


@dataclass(frozen=True, eq=False)
class Ring(Initializer):
    """lambda with |lambda|^2 uniform in [r_min^2, r_max^2] and a phase uniform in [0, max_phase].

    Of a whole ring (max_phase = 2 pi) all points are as likely. A small `max_phase` lets the state turn
    slowly, which long sequences need.

    Orvieto et al. (2023), Resurrecting recurrent neural networks for long sequences, lemma 3.2 and
    section 3.4.
    """

    name = "ring"

    r_min: Probability = 0.0
    r_max: Probability = 0.99
    max_phase: PositiveFloat = 2 * np.pi

    def __post_init__(self):
        super().__post_init__()
        if not self.r_min < self.r_max:
            raise InputError(f"Ring: r_min < r_max is needed (got {self.r_min} and {self.r_max})")

    def eigenvalues(self, rng, n):
        square = rng.uniform(self.r_min**2, self.r_max**2, n)
        return np.sqrt(square) * np.exp(1j * self.max_phase * rng.uniform(size=n))
