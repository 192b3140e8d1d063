"""Noise on the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import NonNegativeFloat


@dataclass(frozen=True, eq=False)
class GradientNoise(Mitigation):
    """Add independent noise N(0, eta / (1 + u)^gamma) to each component of the gradient of update u.

    Updates count from 0 here, so that the first one has the variance eta; a simulation has it too.

    Neelakantan et al. (2015), Adding gradient noise improves learning for very deep networks, with
    eta one of 0.01, 0.3 and 1, and gamma = 0.55.
    """

    name = "gradient_noise"
    idle = {"eta": 0.0}

    eta: NonNegativeFloat = 0.01
    gamma: NonNegativeFloat = 0.55

    def draw(self, rng, shapes, moment):
        if not self.eta:
            return {}
        size = np.sqrt(self.eta / (1 + moment.update - moment.learning) ** self.gamma)
        return {n: size * rng.standard_normal(shape) for n, shape in shapes.items()}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, draws):
        gradient = yield
        noise = draws[self]
        return {n: g + noise[n] for n, g in gradient.items()} if noise else gradient
