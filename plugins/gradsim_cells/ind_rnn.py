"""The independently recurrent network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Dense, Term
from gradsim.contracts.validation import refuse_reversed
from gradsim_cells.algebra import normal


@dataclass(frozen=True, eq=False)
class IndRNN(Dense):
    """h_t = phi(W x_t + u * h_{t-1} + b): each unit sees no state but its own.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 1 / input_size), u (n) uniform between
    u_min and u_max, b (n) = 0. phi: relu or tanh.

    J_t = diag(phi' u), so that the products are elementwise: of a relu that stays open P(t, k) =
    diag(u)^(t-k), which neither vanishes nor explodes over T steps where eps^(1/T) <= |u| <= gamma^(1/T). The
    slope of relu at 0 is taken as 0.

    Li, Li, Cook, Zhu & Gao (2018), Independently recurrent neural network (IndRNN): building a longer and
    deeper RNN.
    """

    name = "ind_rnn"
    sums = 2

    activation: Literal["relu", "tanh"] = "relu"
    u_min: float = 0.0
    u_max: float = 1.0

    def __post_init__(self):
        super().__post_init__()
        refuse_reversed(self, "u_min", "u_max")

    @property
    def terms(self):
        return Term("W", "x"), Term("b", "1"), Term("u", "1", column=self.hidden_size)

    def init_params(self, rng):
        n = self.hidden_size
        weights = normal(rng, n, self.input_size)
        return {"W": weights, "b": np.zeros(n), "u": rng.uniform(self.u_min, self.u_max, n)}

    def unit(self, sums, old, xp):
        a = sums[0] + sums[1] * old[0]
        return xp.tanh(a) if self.activation == "tanh" else xp.where(a > 0, a, 0.0)
