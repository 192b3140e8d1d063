"""The bistable recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class BRC(Dense):
    """h_t = c * h_{t-1} + (1 - c) * tanh(W_n x_t + b_n + a * h_{t-1}).

    Feedback a = 1 + tanh(W_a x_t + b_a + w_a * h_{t-1}) and update gate
    c = sigmoid(W_c x_t + b_c + w_c * h_{t-1}).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size) and b (3n) are in the order a, c, n,
    those of w (2n) in the order a, c. W ~ N(0, 1 / input_size), w = 1, b = 0.

    No unit sees another one: J_t is diagonal. Where a stays the same and there is no input, a unit comes to
    rest at 0 if a <= 1, and at one of two states h = tanh(a h) if a > 1: it remembers a sign for ever.

    Vecoven, Ernst & Drion (2021), A bio-inspired bistable recurrent cell allows for long-lasting memory.
    The candidate has no bias there.
    """

    name = "brc"
    gate_names = ("feedback", "update", "candidate")
    keeps = ("update",)
    sums = 5

    @property
    def terms(self):
        return Term("W", "x"), Term("b", "1"), Term("w", "1", column=3 * self.hidden_size)

    @property
    def gates(self):
        return super().gates | {"w": ("feedback", "update")}

    @property
    def paths(self):
        return ("update", "candidate", "feedback")  # the feedback acts within the candidate

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": normal(rng, 3 * n, self.input_size), "w": np.ones(2 * n), "b": np.zeros(3 * n)}

    def unit(self, sums, old, xp):
        a, c, candidate, w_a, w_c = sums
        return bistable(a + w_a * old[0], c + w_c * old[0], candidate, old[0], xp)


def bistable(a, c, candidate, h, xp):
    """The new state, of the sums of feedback, update gate and candidate."""
    a, c = through(1 + xp.tanh(a), "feedback"), through(sigmoid(c, xp), "update")
    return c * h + (1 - c) * through(xp.tanh(candidate + a * h), "candidate")
