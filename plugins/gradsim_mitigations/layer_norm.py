"""States that are normalised at each step."""

from __future__ import annotations

from dataclasses import dataclass

import gradsim_cells
from gradsim import Mitigation, hookimpl
from gradsim.types import PositiveFloat


@dataclass(frozen=True, eq=False)
class LayerNorm(Mitigation):
    """Normalise blocks of the new state at each step: h_t = g * (h' - mean h') / sqrt(var h' + epsilon) + b.

    h': what the step makes of the blocks that are `normalised`, by default those that are read. The cell
    `layer_norm`, where its Jacobian is.

    Ba, Kiros & Hinton (2016), Layer normalization, eq. 3-4, who normalise what goes into the activations.
    """

    name = "layer_norm"

    normalised: tuple[str, ...] = ()
    epsilon: PositiveFloat = 1e-5

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        return gradsim_cells.LayerNorm((yield), self.normalised, self.epsilon)
