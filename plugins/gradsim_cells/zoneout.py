"""Zoneout around any cell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from gradsim import Cell, Wrapper
from gradsim.errors import unknown
from gradsim.types import Probability
from gradsim_cells.lstm import LSTM


@dataclass(frozen=True, eq=False)
class Zoneout(Wrapper):
    """s_t = d_t * s_{t-1} + (1 - d_t) * f(s_{t-1}, x_t), with d_t ~ Bernoulli(rate): what is kept is random.

    f: the step of the cell inside. d_t: a mask of the whole state, drawn anew at each step, for each sequence
    and for each component by itself; while validating it is its mean. Blocks that are named in `rates` have
    one of their own: the paper takes 0.5 for c and 0.05 for h of an LSTM.

    J_t = diag(d_t) + diag(1 - d_t) J_f: a part of the identity, at random, where dropout would have zeros.
    With rate = 1 the state never changes; rate = 0 is the cell inside.

    Krueger et al. (2017), Zoneout: regularizing RNNs by randomly preserving hidden activations, section 3.
    """

    name = "zoneout"

    cell: Cell = field(default_factory=LSTM)
    rate: Probability = 0.1
    rates: Mapping[str, Probability] = field(default_factory=dict)

    def __post_init__(self):
        super().__post_init__()
        for block in self.rates:
            if block not in self.blocks:
                raise unknown(f"block of {self.cell.name} in the rates of Zoneout", block, self.blocks)

    def own_draw(self, rng, steps, batch, moment):
        rates = np.concatenate([np.full(n, self.rates.get(b, self.rate)) for b, n in self.blocks.items()])
        shape = steps, batch, self.state_size
        kept = np.broadcast_to(rates, shape) if moment.validating else rng.random(shape) < rates
        return {"kept": kept.astype(np.float64)}

    def mix(self, own, state, inputs, new, xp, *, kept):
        return kept * state + (1 - kept) * new
