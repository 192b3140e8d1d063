"""A gated recurrent unit whose units see no state but their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class ParaGRU(Dense):
    """h_t = (1 - z) * h_{t-1} + z * g, with g = tanh(W_g x_t + u_g * (r * h_{t-1}) + b_g).

    Gates r, z = sigmoid(W x_t + u * h_{t-1} + b).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size), u (3n) and b (3n) are in the order r, z,
    g. W ~ N(0, 1 / input_size), u ~ N(0, 4 / (5n)), b = 0.

    It is the GRU of Cho et al. with a diagonal recurrent weight, so that J_t is diagonal, and all states of a
    sequence can be found at once by Newton's method. The z of this paper admits what that of `GRU` keeps.

    Danieli, Rodriguez, Sarabia, Suau & Zappella (2025), ParaRNN: unlocking parallel training of nonlinear
    RNNs for large language models, eq. 3.1a with diagonal A; their code has W in blocks, one for each head.
    """

    name = "para_gru"
    gate_names = ("reset", "update", "candidate")
    sums = 6
    admits = ("update",)

    @property
    def terms(self):
        return Term("W", "x"), Term("b", "1"), Term("u", "1", column=3 * self.hidden_size)

    @property
    def gates(self):
        return dict.fromkeys(("W", "u", "b"), self.gate_names)

    @property
    def paths(self):
        return ("update", "candidate", "reset")  # the reset gate acts within the candidate

    def init_params(self, rng):
        n = self.hidden_size
        u = rng.normal(0, np.sqrt(0.8 / n), 3 * n)
        return {"W": normal(rng, 3 * n, self.input_size), "b": np.zeros(3 * n), "u": u}

    def unit(self, sums, old, xp):
        (r, z, g, u_r, u_z, u_g), (h,) = sums, old
        r = through(sigmoid(r + u_r * h, xp), "reset")
        z = through(sigmoid(z + u_z * h, xp), "update")
        return (1 - z) * h + z * through(xp.tanh(g + u_g * (r * h)), "candidate")
