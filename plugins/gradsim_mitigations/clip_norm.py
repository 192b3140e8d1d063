"""Clip the norm of the gradient, of its parts, or of the adjoint."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.numerics.scaled import euclidean
from gradsim.types import PositiveFloat
from gradsim_mitigations.clipping import PHASES, shortened, sizes


@dataclass(frozen=True, eq=False)
class ClipNorm(Mitigation):
    """Rescale a vector v to norm max_norm where its norm exceeds it: v <- v min(1, max_norm / ||v||_2).

    `where` says what is one vector, whose direction stays:

    - "gradient": the gradient of all parameters together, algorithm 1 of Pascanu et al.;
    - "parameter": that of each parameter;
    - "contribution": what each step adds to the gradient of all parameters;
    - "adjoint": the adjoint a_t (m) of each batch element at each time, before it enters the gradient and is
      carried back. Not linear in the adjoint: there is no effective product, and `effective_adjoint_factor`
      records the factor. Where truncation makes windows, each has an adjoint of its own.

    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks; for adjoints
    after Graves (2013), Generating sequences with recurrent neural networks, section 2.1, who cuts components
    as `clip_value` does.
    """

    name = "clip_norm"
    idle = {"max_norm": 1e30}

    max_norm: PositiveFloat = 1.0
    where: Literal["gradient", "parameter", "contribution", "adjoint"] = field(
        default="gradient", kw_only=True
    )

    @property
    def phases(self):
        return PHASES[self.where]

    @hookimpl(wrapper=True)
    def gradsim_adjoint(self):
        adjoint = yield
        return shortened(adjoint, sizes(adjoint, -1), self.max_norm)

    @hookimpl(wrapper=True)
    def gradsim_contributions(self):
        contributions = yield
        if not contributions:  # nothing trains
            return contributions
        flat = {n: c.reshape(len(c), -1) for n, c in contributions.items()}
        size = sizes(np.concatenate([sizes(c, -1) for c in flat.values()], axis=-1), -1)
        return {n: shortened(c, size, self.max_norm).reshape(contributions[n].shape) for n, c in flat.items()}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        gradient = yield
        each = self.where == "parameter"
        whole = euclidean(*gradient.values())
        return {n: shortened(g, euclidean(g) if each else whole, self.max_norm) for n, g in gradient.items()}
