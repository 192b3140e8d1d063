"""Adaptive gradient clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat
from gradsim_mitigations.clipping import shortened, sizes


@dataclass(frozen=True, eq=False)
class ClipAdaptive(Mitigation):
    """Clip the gradient of each unit's weights relative to their own norm: AGC.

    G_i <- G_i min(1, limit max(||W_i||, floor) / ||G_i||), with W_i row i of a parameter of two or more axes,
    which leads to unit i, and G_i its gradient. A parameter of one axis or none, such as a bias, is one unit,
    as in the code of the authors. `floor` lets train what is zero at first. The readout is clipped as well;
    in the paper the last layer is not.

    Brock, De, Smith & Simonyan (2021), High-performance large-scale image recognition without normalization,
    eq. 3, with limit = 0.01 (lambda) and floor = 1e-3 (epsilon).
    """

    name = "clip_adaptive"
    idle = {"limit": 1e30}

    limit: PositiveFloat = 0.01
    floor: PositiveFloat = 1e-3

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, params):
        gradient = yield
        return {n: self._clipped(g, params[n]) for n, g in gradient.items()}

    def _clipped(self, gradient, weights):
        axes = tuple(range(1, gradient.ndim)) if gradient.ndim > 1 else None
        return shortened(
            gradient, sizes(gradient, axes), self.limit * np.maximum(sizes(weights, axes), self.floor)
        )
