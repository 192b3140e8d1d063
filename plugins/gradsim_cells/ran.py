"""The recurrent additive network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Weighted, through
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class RAN(Weighted):
    """c_t = i * (W_c x_t + b_c) + f * c_{t-1}, read as h_t = g(c_t).

    Gates i, f = sigmoid(W x_t + U h_{t-1} + b). g: tanh, or the identity.

    c: state (hidden_size = n); h is a function of it, and no block. x: input. Rows of W (3n, input_size)
    and b (3n) are in the order i, f, c, those of U (2n, n) in the order i, f. W ~ N(0, 1 / input_size),
    U ~ N(0, 1 / n), b = 0.

    The new content does not see the state, so that c_t is a weighted sum of contents, sum_j w_j * (W_c x_j
    + b_c), with weights w_j = i_j * f_{j+1} * ... * f_t.

    Lee, Levy & Zettlemoyer (2017), Recurrent additive networks.
    """

    name = "ran"

    activation: Literal["tanh", "identity"] = "tanh"

    paths = ("input", "forget")
    keeps = ("forget",)
    admits = ("input",)
    recurrent_weights = ("U",)

    @property
    def blocks(self):
        return {"c": self.hidden_size}

    @property
    def gates(self):
        return {"U": self.paths} | dict.fromkeys(("W", "b"), (*self.paths, "candidate"))

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 3 * n, self.input_size),
            "U": normal(rng, 2 * n, n),
            "b": np.zeros(3 * n),
        }

    def step(self, params, state, inputs, xp):
        n = self.hidden_size
        i, f, content = parts(inputs @ params["W"].T + params["b"], n)
        seen_i, seen_f = parts(self.output(params, state, inputs, xp) @ params["U"].T, n)
        i, f = through(sigmoid(i + seen_i, xp), "input"), through(sigmoid(f + seen_f, xp), "forget")
        return i * content + f * state

    def output(self, params, state, inputs, xp):
        return xp.tanh(state) if self.activation == "tanh" else state
