"""States of which a random part is kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import gradsim_cells
from gradsim import Mitigation, hookimpl
from gradsim.types import Probability


@dataclass(frozen=True, eq=False)
class Zoneout(Mitigation):
    """Keep a random part of the state at each step: s_t = d_t * s_{t-1} + (1 - d_t) * f(s_{t-1}, x_t).

    d_t ~ Bernoulli(rate), for each component by itself: J_t = diag(d_t) + diag(1 - d_t) J_f. In a validation
    d_t is its mean. Blocks named in `rates` have a rate of their own. More is said at the cell `zoneout`.

    Krueger et al. (2017), Zoneout: regularizing RNNs by randomly preserving hidden activations, section 3.
    """

    name = "zoneout"
    idle = {"rate": 0.0, "rates": {}}

    rate: Probability = 0.1
    rates: Mapping[str, Probability] = field(default_factory=dict)

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        zoned = gradsim_cells.Zoneout(cell, self.rate, self.rates)
        return zoned if self.rate or any(self.rates.values()) else cell
