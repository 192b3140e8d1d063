"""A long short-term memory whose units see no state but their own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class ParaLSTM(Dense):
    """c_t = f * c_{t-1} + (1 - f) * g and h_t = o * tanh(c_t).

    f = sigmoid(W_f x_t + u_f * h_{t-1} + p_f * c_{t-1} + b_f), g = tanh(W_g x_t + u_g * h_{t-1} + b_g) and
    o = sigmoid(W_o x_t + u_o * h_{t-1} + p_o * c_t + b_o).

    State: blocks h and c, each hidden_size = n. Rows of W (3n, input_size), u (3n) and b (3n) are in the
    order f, g, o, those of the peepholes p (2n) in the order f, o. W ~ N(0, 1 / input_size), u and p ~ N(0, 4
    / (5n)), b = 0.

    It is the LSTM with peepholes and one gate for what is kept and what is admitted, with a diagonal
    recurrent weight: J_t has a 2 x 2 block for each unit, and all states of a sequence can be found at once
    by Newton's method.

    Danieli, Rodriguez, Sarabia, Suau & Zappella (2025), ParaRNN: unlocking parallel training of nonlinear
    RNNs for large language models, eq. 3.1b with diagonal A and C; their code has W in blocks, one for each
    head.
    """

    name = "para_lstm"
    gate_names = ("forget", "candidate", "output")
    sums = 8
    keeps = ("forget",)

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    @property
    def terms(self):
        n = self.hidden_size
        own = Term("u", "1", column=3 * n), Term("p", "1", column=6 * n)
        return Term("W", "x"), Term("b", "1"), *own

    @property
    def gates(self):
        return dict.fromkeys(("W", "u", "b"), self.gate_names) | {"p": ("forget", "output")}

    def init_params(self, rng):
        n = self.hidden_size
        own = {name: rng.normal(0, np.sqrt(0.8 / n), rows * n) for name, rows in (("u", 3), ("p", 2))}
        return {"W": normal(rng, 3 * n, self.input_size), "b": np.zeros(3 * n), **own}

    def unit(self, sums, old, xp):
        (f, g, o, u_f, u_g, u_o, p_f, p_o), (h, c) = sums, old
        f = through(sigmoid(f + u_f * h + p_f * c, xp), "forget")
        c = f * c + (1 - f) * through(xp.tanh(g + u_g * h), "candidate")
        o = through(sigmoid(o + u_o * h + p_o * c, xp), "output")
        return o * xp.tanh(c), c
