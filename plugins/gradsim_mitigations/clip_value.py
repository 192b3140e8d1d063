"""Clip components of the gradient, of contributions to it, or of the adjoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat
from gradsim_mitigations.clipping import PHASES


@dataclass(frozen=True, eq=False)
class ClipValue(Mitigation):
    """Cut every component to [-limit, limit], which changes directions.

    `where` says of what: of the gradient; of the contribution of each step to it, summed over the batch; or
    of the adjoint a_t of each batch element at each time, before it enters the gradient and is carried back.
    There is no effective product then: see `effective_adjoint_factor`.

    Mikolov (2012), Statistical language models based on neural networks (thesis), section 3.2; inside the
    backward pass Graves (2013), Generating sequences with recurrent neural networks, section 2.1, who cuts
    the derivatives by what an LSTM sums up before its sigmoids and tanhs.
    """

    name = "clip_value"
    idle = {"limit": 1e30}

    limit: PositiveFloat = 1.0
    where: Literal["gradient", "contribution", "adjoint"] = field(default="gradient", kw_only=True)

    @property
    def phases(self):
        return PHASES[self.where]

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        return self._cut((yield))

    @hookimpl(wrapper=True)
    def gradsim_contributions(self):
        contributions = yield
        return {n: self._cut(c) for n, c in contributions.items()}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        return {n: self._cut(g) for n, g in gradient.items()}

    def _cut(self, x):
        return np.clip(x, -self.limit, self.limit)
