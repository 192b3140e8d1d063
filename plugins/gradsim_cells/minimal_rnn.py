"""The minimal recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class MinimalRNN(Weighted):
    """h_t = u * h_{t-1} + (1 - u) * z, with z = tanh(W x_t + b_z) and u = sigmoid(U h_{t-1} + V z + b_u).

    h: state (hidden_size = n). x: input. z: what is made of the input alone. W (n, input_size)
    ~ N(0, 1 / input_size), U and V (n, n) ~ N(0, 1 / n), b_z (n) = 0 and
    b_u (n) = update_bias.

    The state is a mean of all z so far, unit by unit, and stays within [-1, 1]. J_t = diag(u)
    + diag((h_{t-1} - z) u (1 - u)) U; where U = 0 its products are those of u.

    Chen (2017), MinimalRNN: toward more interpretable and trainable recurrent neural networks.
    There z may be any function of x_t.
    """

    name = "minimal_rnn"

    update_bias: float = 0.0

    paths = ("update",)
    keeps = ("update",)
    recurrent_weights = ("U",)

    @property
    def gates(self):
        return dict.fromkeys(("U", "V", "b_u"), ("update",))

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, n),
            "V": normal(rng, n, n),
            "b_z": np.zeros(n),
            "b_u": np.full(n, self.update_bias),
        }

    def step(self, params, state, inputs, xp):
        z = xp.tanh(inputs @ params["W"].T + params["b_z"])
        u = sigmoid(state @ params["U"].T + z @ params["V"].T + params["b_u"], xp)
        u = through(u, "update")
        return u * state + (1 - u) * z
