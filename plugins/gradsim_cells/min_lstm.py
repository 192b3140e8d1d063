"""The minimal long short-term memory, whose Jacobian is diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid, softplus


@dataclass(frozen=True, eq=False)
class MinLSTM(Dense):
    """h_t = f' * h_{t-1} + (1 - f') * g, with f' = f / (f + i) and g = W_g x_t + b_g.

    Gates f, i = sigmoid(W x_t + b).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size) and b (3n) are in the order i, f, g.
    W ~ N(0, 1 / input_size), b = 0 except b_f = forget_bias.

    No gate sees the state: J_t = diag f', and the products are elementwise.

    Feng et al. (2024), Were RNNs all we needed?, section 3.2, the version in plain (not logarithmic) space,
    in which g may be negative.
    """

    name = "min_lstm"
    gate_names = ("input", "forget", "candidate")
    keeps = ("forget",)
    admits = ("input",)
    terms = Term("W", "x"), Term("b", "1")

    forget_bias: float = 0.0

    @property
    def paths(self):
        return ("share", "candidate")

    def init_params(self, rng):
        n = self.hidden_size
        bias = np.concatenate((np.zeros(n), np.full(n, self.forget_bias), np.zeros(n)))
        return {"W": normal(rng, 3 * n, self.input_size), "b": bias}

    def unit(self, sums, old, xp):
        i, f, g = sums
        # f / (f + i) = sigmoid(log f - log i), which is no 0 / 0 where both gates are shut.
        share = through(sigmoid(softplus(-i, xp) - softplus(-f, xp), xp), "share")
        return share * old[0] + (1 - share) * through(g, "candidate")
