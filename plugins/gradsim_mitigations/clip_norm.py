"""Clip the norm of the gradient."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Mitigation, hookimpl
from gradsim.numerics.scaled import euclidean
from gradsim.types import PositiveFloat


@dataclass(frozen=True, eq=False)
class ClipNorm(Mitigation):
    """Rescale the whole gradient to norm max_norm where its norm exceeds it.

    g <- g min(1, max_norm / ||g||_2), with the norm over all parameters together: its direction stays.

    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks,
    algorithm 1.
    """

    name = "clip_norm"
    idle = {"max_norm": 1e30}

    max_norm: PositiveFloat = 1.0

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        norm = euclidean(*gradient.values())
        if norm <= self.max_norm:
            return gradient
        return {n: (g * (self.max_norm / norm)).astype(g.dtype) for n, g in gradient.items()}
