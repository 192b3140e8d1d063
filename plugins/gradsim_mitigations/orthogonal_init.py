"""Orthogonal initial weights."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim.contracts.start import Start
from gradsim.types import PositiveFloat
from gradsim_initializers import Orthogonal
from gradsim_mitigations.starting import Starting


@dataclass(frozen=True, eq=False)
class OrthogonalInit(Starting):
    """Start each recurrent weight at `scale` * Q, with Q orthogonal, uniform over the orthogonal group.

    A weight of shape (r n, n) is taken as r blocks, each with its own Q. It acts on what the cell calls its
    recurrent weights. In a linear cell all singular values of P(t, k) are then scale^(t-k).

    Saxe, McClelland & Ganguli (2014), Exact solutions to the nonlinear dynamics of learning in deep linear
    neural networks; Henaff, Szlam & LeCun (2016), Recurrent orthogonal networks and long-memory tasks.
    """

    name = "orthogonal_init"

    scale: PositiveFloat = 1.0

    @property
    def start(self):
        return Start(recurrent_init=Orthogonal(), recurrent_scale=self.scale)
