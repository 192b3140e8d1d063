"""Clip the adjoint on its way back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat


@dataclass(frozen=True, eq=False)
class ClipAdjoint(Mitigation):
    """Rescale the adjoint of each batch element at each step to norm max_norm where it exceeds it.

    a_t <- a_t min(1, max_norm / ||a_t||_2), before a_t enters the gradient and is carried back. Not
    linear in the adjoint: there is no effective product, `effective_adjoint_factor` records the factor.

    After Graves (2013), Generating sequences with recurrent neural networks, section 2.1, who clips
    each component of the derivatives inside the backward pass.
    """

    name = "clip_adjoint"
    idle = {"max_norm": 1e30}

    max_norm: PositiveFloat = 1.0

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        norm = np.linalg.norm(adjoint, axis=-1, keepdims=True)
        return np.where(
            norm > self.max_norm, adjoint * (self.max_norm / np.maximum(norm, self.max_norm)), adjoint
        )
