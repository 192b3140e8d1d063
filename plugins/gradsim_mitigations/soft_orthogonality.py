"""A penalty on weights that are not orthogonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Penalty, hookimpl
from gradsim.types import NonNegativeFloat
from gradsim_mitigations.acting import OnWeights, squares


@dataclass(frozen=True, eq=False)
class SoftOrthogonality(OnWeights):
    """Add weight * sum ||W^T W - I||_F^2 over all blocks W (n, n) to the loss.

    It is sum (sigma_i^2 - 1)^2 of the singular values: they are drawn to 1, and none is held there. The
    gradient is 4 W (W^T W - I).

    Vorontsov, Trabelsi, Kadoury & Pal (2017), On orthogonality and learning recurrent networks with long term
    dependencies.
    """

    name = "soft_orthogonality"
    idle = {"weight": 0.0}

    weight: NonNegativeFloat = 1e-2

    @hookimpl(wrapper=True)
    def gradsim_penalty(self, cell, params):
        penalty = yield
        for name in self.acts_on(cell):
            w = squares(params[name])
            away = w.swapaxes(-1, -2) @ w - np.eye(w.shape[-1], dtype=w.dtype)
            gradient = {name: (4 * w @ away).reshape(params[name].shape)}
            penalty = penalty + self.weight * Penalty(float(np.sum(away * away)), gradient)
        return penalty
