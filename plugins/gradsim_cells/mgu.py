"""The minimal gated unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class MGU(Weighted):
    """h_t = (1 - f) * h_{t-1} + f * n, with one gate f that is reset and update at once.

    f = sigmoid(W_f x_t + U_f h_{t-1} + b_f) and n = tanh(W_n x_t + U_n (f * h_{t-1}) + b_n).

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size), U (2n, n) and b (2n) are in the
    order f, n. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0.

    Where f closes, the state is kept, h_t = h_{t-1}: f forgets where it is *open*. Some implementations have
    f and 1 - f the other way around.

    Zhou, Wu, Zhang & Zhou (2016), Minimal gated unit for recurrent neural networks.
    """

    name = "mgu"

    paths = ("forget", "candidate")
    admits = ("forget",)
    recurrent_weights = ("U",)

    @property
    def gates(self):
        return dict.fromkeys(("W", "U", "b"), self.paths)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 2 * n, self.input_size),
            "U": normal(rng, 2 * n, n),
            "b": np.zeros(2 * n),
        }

    def step(self, params, state, inputs, xp):
        n, u = self.hidden_size, params["U"]
        f, candidate = parts(inputs @ params["W"].T + params["b"], n)
        f = through(sigmoid(f + state @ u[:n, :].T, xp), "forget")
        candidate = through(xp.tanh(candidate + (f * state) @ u[n:, :].T), "candidate")
        return (1 - f) * state + f * candidate
