"""Clip each component of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat


@dataclass(frozen=True, eq=False)
class ClipValue(Mitigation):
    """Cut every component of the gradient to [-limit, limit]. This changes its direction.

    Mikolov (2012), Statistical language models based on neural networks (thesis), section 3.2.
    """

    name = "clip_value"
    idle = {"limit": 1e30}

    limit: PositiveFloat = 1.0

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        return {n: np.clip(g, -self.limit, self.limit) for n, g in gradient.items()}
