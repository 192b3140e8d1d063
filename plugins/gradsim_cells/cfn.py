"""The chaos-free network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class CFN(Dense):
    """h_t = f * tanh(h_{t-1}) + i * tanh(W_c x_t), with gates f, i = sigmoid(W x_t + U h_{t-1} + b).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size) are in the order f, i, c, those of
    U (2n, n) and b (2n) in the order f, i. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0 except
    b_f = forget_bias.

    Without inputs |h_t| < |h_{t-1}| in each unit: 0 attracts every state, and there is no chaos, whatever the
    weights. A unit sees the others through its gates only.

    Laurent & von Brecht (2017), A recurrent neural network without chaos. There f is theta and
    i is eta.
    """

    name = "cfn"
    gate_names = ("forget", "input", "candidate")
    keeps = ("forget",)
    admits = ("input",)

    forget_bias: float = 1.0

    @property
    def gates(self):
        return {"W": self.gate_names, "U": self.gate_names[:2], "b": self.gate_names[:2]}

    @property
    def paths(self):
        return self.gate_names[:2]  # the candidate does not see the state

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 3 * n, self.input_size),
            "U": normal(rng, 2 * n, n),
            "b": np.concatenate((np.full(n, self.forget_bias), np.zeros(n))),
        }

    def unit(self, sums, old, xp):
        f, i = through(sigmoid(sums[0], xp), "forget"), through(sigmoid(sums[1], xp), "input")
        return f * xp.tanh(old[0]) + i * xp.tanh(sums[2])
