"""The linear cell, the yardstick of every derivative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term
from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_cells.algebra import flat, normal, weight_vjp


@dataclass(frozen=True, eq=False)
class Linear(Dense):
    """h_t = W h_{t-1} + U x_t.

    h: state (hidden_size). x: input (input_size). W (hidden_size, hidden_size) ~ N(0, gain^2 /
    hidden_size), U (hidden_size, input_size) ~ N(0, 1 / input_size).

    Every Jacobian is known in closed form: P(t, k) = W^(t-k).
    """

    name = "linear"
    terms = Term("U", "x"), Term("W", "h")
    kernel = "gradsim_cells.kernels.elman"
    kernel_options = (3,)

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    gain: NonNegativeFloat = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    def init_params(self, rng):
        return {
            "W": normal(rng, self.hidden_size, self.hidden_size, self.gain),
            "U": normal(rng, self.hidden_size, self.input_size),
        }

    def unit(self, sums, old, xp):
        return sums[0]

    def step_jacobian(self, params, state, inputs):
        return np.broadcast_to(params["W"], (*state.shape[:-1], 1, *params["W"].shape))

    def bilinear_vjp(self, params, state, inputs, left, right):
        gradient = {"W": weight_vjp(flat(left), flat(right)), "U": np.zeros_like(params["U"])}
        return gradient, np.zeros_like(state)
