"""The linear cell, the yardstick of every derivative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term
from gradsim_cells.algebra import flat, normal, weight_vjp


@dataclass(frozen=True, eq=False)
class Linear(Dense):
    """h_t = W x_t + U h_{t-1}.

    h: state (hidden_size). x: input (input_size). W (hidden_size, input_size) ~ N(0, 1 / input_size),
    U (hidden_size, hidden_size) ~ N(0, 1 / hidden_size).

    Every Jacobian is known in closed form: P(t, k) = U^(t-k).
    """

    name = "linear"
    terms = Term("W", "x"), Term("U", "h")
    kernel = "gradsim_cells.kernels.elman"
    kernel_options = (3,)

    def init_params(self, rng):
        recurrent = normal(rng, self.hidden_size, self.hidden_size)
        return {"W": normal(rng, self.hidden_size, self.input_size), "U": recurrent}

    def unit(self, sums, old, xp):
        return sums[0]

    def step_jacobian(self, params, state, inputs):
        return np.broadcast_to(params["U"], (*state.shape[:-1], 1, *params["U"].shape))

    def bilinear_vjp(self, params, state, inputs, left, right):
        gradient = {"W": np.zeros_like(params["W"]), "U": weight_vjp(flat(left), flat(right))}
        return gradient, np.zeros_like(state)
