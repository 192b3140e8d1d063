"""Clip the gradient by what its norms have been."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim import Mitigation, hookimpl
from gradsim.numerics.scaled import euclidean
from gradsim_mitigations.clipping import shortened


@dataclass(frozen=True, eq=False)
class AutoClip(Mitigation):
    """Rescale the gradient to a percentile of its norms so far, where its norm exceeds that.

    g_u <- g_u min(1, eta_u / ||g_u||_2), with eta_u the percentile of ||g_1||, ..., ||g_u||, before clipping,
    over all updates up to this one. No threshold need be known; the first gradient is left alone, and so is
    every one at 100. It remembers a number an update.

    Seetharaman, Wichern, Pardo & Le Roux (2020), AutoClip: adaptive gradient clipping for source separation
    networks, who find 10 a good percentile.
    """

    name = "auto_clip"
    idle = {"percentile": 100.0}

    percentile: Annotated[float, Interval(ge=0, le=100)] = 10.0

    @hookimpl(wrapper=True)
    def gradsim_gradient(self, moment):
        gradient = yield
        size = euclidean(*gradient.values())
        norms = np.append(moment.memory(self).get("norms", []), size)
        moment.remember(self, norms=norms)
        limit = float(np.percentile(norms, self.percentile))
        return gradient if size <= limit else {n: shortened(g, size, limit) for n, g in gradient.items()}
