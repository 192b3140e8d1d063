"""A step that is added to the state."""

from __future__ import annotations

from dataclasses import dataclass

import gradsim_cells
from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat


@dataclass(frozen=True, eq=False)
class Residual(Mitigation):
    """Add what the step makes to the old state: s_t = s_{t-1} + scale f(s_{t-1}, x_t), J_t = I + scale J_f.

    The cell `residual` with ``around="step"``, where more is said of it; `skip` has longer connections.

    Liao & Poggio (2016), Bridging the gaps between residual learning, recurrent neural networks and visual
    cortex; He et al. (2016), Deep residual learning for image recognition, eq. 1.
    """

    name = "residual"

    scale: PositiveFloat = 0.1

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        return gradsim_cells.Residual((yield), self.scale, "step")
