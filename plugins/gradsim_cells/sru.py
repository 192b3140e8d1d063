"""The simple recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class SRU(Dense):
    """c_t = f * c_{t-1} + (1 - f) * W_c x_t, read as h_t = r * c_t + (1 - r) * x_t.

    f = sigmoid(W_f x_t + v_f * c_{t-1} + b_f) and r = sigmoid(W_r x_t + b_r), or, with ``reset_sees_state``,
    r = sigmoid(W_r x_t + v_r * c_{t-1} + b_r).

    c: state (hidden_size = n). Rows of W (3n, input_size) are in the order c, f, r, those of b (2n) and of v
    (n, or 2n) in the order f, r. Where inputs are not of the size of the state, W_s x_t with rows s at the
    end of W goes past the cell in place of x_t. W ~ N(0, 1 / input_size), v uniform between -1 and 1, b = 0.

    J_t = diag(f + v_f * f (1 - f) * (c_{t-1} - W_c x_t)). What is read is no state. The paper has v_r, and
    its first version has neither v; as h_t then needs c_{t-1} besides c_t, ``reset_sees_state`` keeps it in a
    second block, `before`, through which nothing goes on.

    Lei, Zhang, Wang, Dai & Artzi (2018), Simple recurrent units for highly parallelizable recurrence, eq.
    1-4; without the factor of x_t that its section 3.2 scales the variance with.
    """

    name = "sru"
    keeps = ("forget",)

    reset_sees_state: bool = False

    @property
    def gate_names(self):
        return ("candidate", "forget", "reset", "skip")[: 3 + self._projects]

    @property
    def _projects(self):
        return self.input_size != self.hidden_size

    @property
    def sums(self):
        return len(self.gate_names) + 1 + self.reset_sees_state

    @property
    def terms(self):
        n = self.hidden_size
        return Term("W", "x"), Term("b", "1", column=n), Term("v", "1", column=len(self.gate_names) * n)

    @property
    def gates(self):
        seeing = ("forget", "reset")
        return {"W": self.gate_names, "b": seeing, "v": seeing[: 1 + self.reset_sees_state]}

    @property
    def paths(self):
        return ("candidate", "forget")

    @property
    def blocks(self):
        return dict.fromkeys(("c", "before")[: 1 + self.reset_sees_state], self.hidden_size)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, len(self.gate_names) * n, self.input_size),
            "b": np.zeros(2 * n),
            "v": rng.uniform(-1, 1, (1 + self.reset_sees_state) * n),
        }

    def unit(self, sums, old, xp):
        c, v = old[0], sums[len(self.gate_names)]
        f = through(sigmoid(sums[1] + v * c, xp), "forget")
        new = f * c + (1 - f) * through(sums[0], "candidate")
        return (new, c) if self.reset_sees_state else new

    def output(self, params, state, inputs, xp):
        n, w = self.hidden_size, params["W"]
        c, r = state[..., :n], inputs @ w[2 * n : 3 * n, :].T + params["b"][n:]
        if self.reset_sees_state:
            r = r + params["v"][n:] * state[..., n:]
        r = sigmoid(r, xp)
        return r * c + (1 - r) * (inputs @ w[3 * n :, :].T if self._projects else inputs)
