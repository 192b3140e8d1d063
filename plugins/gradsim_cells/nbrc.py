"""The bistable recurrent cell whose units modulate each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense
from gradsim_cells.algebra import normal
from gradsim_cells.brc import bistable


@dataclass(frozen=True, eq=False)
class NBRC(Dense):
    """h_t = c * h_{t-1} + (1 - c) * tanh(W_n x_t + b_n + a * h_{t-1}).

    Feedback a = 1 + tanh(W_a x_t + b_a + U_a h_{t-1}) and update gate
    c = sigmoid(W_c x_t + b_c + U_c h_{t-1}).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size) and b (3n) are in the order a, c, n,
    those of U (2n, n) in the order a, c. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0.

    It is the BRC where both U are diagonal. Here units see each other, but only through the two gates: what
    is stored stays in its unit, and others say whether it is kept (a > 1) or lost.

    Vecoven, Ernst & Drion (2021), A bio-inspired bistable recurrent cell allows for long-lasting memory.
    The candidate has no bias there.
    """

    name = "nbrc"
    gate_names = ("feedback", "update", "candidate")
    keeps = ("update",)

    @property
    def gates(self):
        return {"W": self.gate_names, "U": self.gate_names[:2], "b": self.gate_names}

    @property
    def paths(self):
        return ("update", "candidate", "feedback")  # the feedback acts within the candidate

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 3 * n, self.input_size),
            "U": normal(rng, 2 * n, n),
            "b": np.zeros(3 * n),
        }

    def unit(self, sums, old, xp):
        return bistable(*sums, old[0], xp)
