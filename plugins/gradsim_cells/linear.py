"""The linear cell, the yardstick of every derivative."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_cells.algebra import flat, normal, weight_vjp
from gradsim_cells.dense import Dense
from gradsim_cells.weights import Term, Weights


@dataclass(frozen=True, eq=False)
class Linear(Dense):
    """h_t = W h_{t-1} + U x_t.

    h: state (hidden_size). x: input (input_size). W (hidden_size, hidden_size) ~ N(0, gain^2 /
    hidden_size), U (hidden_size, input_size) ~ N(0, 1 / input_size).

    Every Jacobian is known in closed form: P(t, k) = W^(t-k).
    """

    name = "linear"
    kernel = "gradsim_cells.kernels.elman"
    kernel_options = (3,)

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    gain: NonNegativeFloat = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    @property
    def recurrent_weights(self):
        return ("W",)

    def init_params(self, rng):
        return {
            "W": normal(rng, self.hidden_size, self.hidden_size, self.gain),
            "U": normal(rng, self.hidden_size, self.input_size),
        }

    def step(self, params, state, inputs, xp):
        return state @ params["W"].T + inputs @ params["U"].T

    def step_jacobian(self, params, state, inputs):
        return np.broadcast_to(params["W"], (*state.shape[:-1], 1, *params["W"].shape))

    def bilinear_vjp(self, params, state, inputs, left, right):
        gradient = {"W": weight_vjp(flat(left), flat(right)), "U": np.zeros_like(params["U"])}
        return gradient, np.zeros_like(state)

    def weights(self, params):
        return Weights(params["U"], params["W"], np.zeros_like(params["W"][:, 0]))

    def terms(self):
        whole = slice(0, self.hidden_size)
        return [Term("U", whole, whole, "x"), Term("W", whole, whole, "h")]

    def activate(self, a, old, new, saved):
        new[...] = a

    def slopes(self, old, new, saved):
        return np.ones_like(new)

    def deactivate(self, adjoint, slopes, d, beside):
        d[...] = adjoint
        beside[...] = 0
