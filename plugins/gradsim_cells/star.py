"""The stackable recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class STAR(Dense):
    """h_t = tanh((1 - k) * h_{t-1} + k * z), with k = sigmoid(W_k x_t + U h_{t-1} + b_k).

    The candidate z = tanh(W_z x_t + b_z) does not see the state.

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size) and b (2n) are in the order k, z; U
    (n, n). W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0.

    J_t = diag(1 - h_t^2) (diag(1 - k) + diag((z - h_{t-1}) k (1 - k)) U): it is made such that a gradient
    neither grows nor shrinks on its way through layers.

    Turkoglu, D'Aronco, Wegner & Schindler (2021), Gating revisited: deep multi-layer RNNs that can be
    trained.
    """

    name = "star"
    gate_names = ("update", "candidate")
    admits = ("update",)

    @property
    def gates(self):
        return {"W": self.gate_names, "b": self.gate_names}

    @property
    def paths(self):
        return ("update",)  # the candidate does not see the state

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": normal(rng, 2 * n, self.input_size), "U": normal(rng, n, n), "b": np.zeros(2 * n)}

    def unit(self, sums, old, xp):
        k = through(sigmoid(sums[0], xp), "update")
        return xp.tanh((1 - k) * old[0] + k * xp.tanh(sums[1]))
