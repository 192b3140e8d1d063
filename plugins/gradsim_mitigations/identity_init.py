"""Recurrent weights that start at the identity."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim.contracts.start import Start
from gradsim.types import PositiveFloat
from gradsim_initializers import Identity
from gradsim_mitigations.starting import Starting


@dataclass(frozen=True, eq=False)
class IdentityInit(Starting):
    """Start each recurrent weight at `scale` * I, block by block where it has shape (r n, n).

    It acts on what the cell calls its recurrent weights. With relu units J_t is then scale * I over the
    units that are active, so that P(t, k) is scale^(t-k) for those that stay active all along. The authors
    use a scale of 1, and 0.01 where only a short memory is needed; their biases start at 0 as well.

    Le, Jaitly & Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
    """

    name = "identity_init"

    scale: PositiveFloat = 1.0

    @property
    def start(self):
        return Start(recurrent_init=Identity(), recurrent_scale=self.scale)
