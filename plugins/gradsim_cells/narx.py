"""The NARX network, whose state is seen with several delays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted
from gradsim.errors import InputError
from gradsim.types import NonNegativeInt, PositiveInt
from gradsim_cells.algebra import normal


@dataclass(frozen=True, eq=False)
class NARX(Weighted):
    """h_t = tanh(sum over i of W_i x_{t-i} + sum over d of U_d h_{t-d} + b).

    i runs from 0 to `input_delays`, and d over `delays`.

    State: h (hidden_size = n) and what it was before, the blocks h1, h2, ... as far as the longest of the
    D delays goes; and x, x1, ... (input_size each), the last inputs, if there are input delays. W
    ((input_delays + 1) n, input_size) and U (D n, n) have rows by delay, in order. W_i ~
    N(0, 1 / ((input_delays + 1) input_size)), U_d ~ N(0, 1 / (D n)), b (n) = 0.

    J_t shifts the older blocks on, and only its first rows have slopes. A path of the gradient over `lag`
    steps that takes delay d has lag / d factors, not lag: it vanishes d times more slowly.

    Lin, Horne, Tino & Giles (1996), Learning long-term dependencies in NARX recurrent neural networks. There
    only the output is fed back with delays; here all of h is, as in the skips of Zhang et al. (2016),
    Architectural complexity measures of recurrent neural networks.
    """

    name = "narx"

    recurrent_weights = ("U",)

    delays: tuple[PositiveInt, ...] = (1, 2, 3)
    input_delays: NonNegativeInt = 0

    def __post_init__(self):
        super().__post_init__()
        if not self.delays or len(set(self.delays)) < len(self.delays):
            raise InputError(f"NARX: delays={self.delays} should hold one delay or more, each once")

    @property
    def blocks(self):
        past = {f"h{d}": self.hidden_size for d in range(1, max(self.delays))}
        seen = {f"x{i or ''}": self.input_size for i in range(self.input_delays)}
        return {"h": self.hidden_size, **past, **seen}

    @property
    def gates(self):
        seen = tuple(f"delay_{i}" for i in range(self.input_delays + 1))
        return {"W": seen, "U": tuple(f"delay_{d}" for d in self.delays)}

    def init_params(self, rng):
        n, count, seen = self.hidden_size, len(self.delays), self.input_delays + 1
        return {
            "W": normal(rng, seen * n, self.input_size, seen**-0.5),
            "U": normal(rng, count * n, n, count**-0.5),
            "b": np.zeros(n),
        }

    def step(self, params, state, inputs, xp):
        n, longest = self.hidden_size, max(self.delays)
        past, seen = state[..., : longest * n], state[..., longest * n :]
        seen = xp.concat((inputs, seen), axis=-1)
        a = params["b"]
        for row, d in enumerate(self.delays):
            a = a + past[..., (d - 1) * n : d * n] @ params["U"][row * n : (row + 1) * n, :].T
        for i in range(self.input_delays + 1):
            x = seen[..., i * self.input_size : (i + 1) * self.input_size]
            a = a + x @ params["W"][i * n : (i + 1) * n, :].T
        kept = past[..., : (longest - 1) * n], seen[..., : self.input_delays * self.input_size]
        return xp.concat((xp.tanh(a), *kept), axis=-1)
