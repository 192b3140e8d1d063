"""The three best cells of a search among ten thousand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Weighted, through
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class MUT(Weighted):
    """h_t = z * n + (1 - z) * h_{t-1}, with r = sigmoid(W_r x_t + U_r h_{t-1} + b_r) and, by its `form`,

    1: z = sigmoid(W_z x_t + b_z) and n = tanh(U_n (r * h_{t-1}) + tanh(W_n x_t) + b_n);
    2: z = sigmoid(W_z x_t + U_z h_{t-1} + b_z) and n = tanh(U_n (r * h_{t-1}) + W_n x_t + b_n);
    3: z = sigmoid(W_z x_t + U_z tanh(h_{t-1}) + b_z) and n as in 2.

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size), U (3n, n) and b (3n) are in the
    order z, r, n; in form 1 those of U (2n, n) in the order r, n. W ~ N(0, 1 / input_size),
    U ~ N(0, 1 / n), b = 0.

    Form 2 is a GRU, with the reset before the product. In the paper x_t stands alone, in place of W_n x_t in
    form 1 and of W_r x_t in form 2, which needs inputs of the size of the state; with W = I there it is
    the same.

    Jozefowicz, Zaremba & Sutskever (2015), An empirical exploration of recurrent network architectures:
    MUT1, MUT2 and MUT3.
    """

    name = "mut"

    form: Literal[1, 2, 3] = 1

    paths = ("update", "candidate", "reset")  # the reset gate acts within the candidate
    admits = ("update",)
    recurrent_weights = ("U",)

    @property
    def gates(self):
        names = ("update", "reset", "candidate")
        return {"W": names, "U": names[1:] if self.form == 1 else names, "b": names}

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 3 * n, self.input_size),
            "U": normal(rng, len(self.gates["U"]) * n, n),
            "b": np.zeros(3 * n),
        }

    def step(self, params, state, inputs, xp):
        n, u = self.hidden_size, params["U"]
        z, r, from_x = parts(inputs @ params["W"].T, n)
        b_z, b_r, b_n = parts(params["b"], n)
        if self.form == 1:
            from_x = xp.tanh(from_x)
        else:
            z = z + (xp.tanh(state) if self.form == 3 else state) @ u[:n, :].T
        z = through(sigmoid(z + b_z, xp), "update")
        r = through(sigmoid(r + state @ u[-2 * n : -n, :].T + b_r, xp), "reset")
        candidate = xp.tanh((r * state) @ u[-n:, :].T + from_x + b_n)
        return z * through(candidate, "candidate") + (1 - z) * state
