"""The Elman cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Dense
from gradsim.contracts.dense import Slopes
from gradsim_cells.algebra import normal, sigmoid

ACTIVATIONS = {
    "tanh": lambda a, xp: xp.tanh(a),
    "relu": lambda a, xp: xp.where(a > 0, a, 0.0),  # of a maximum, autograd takes the slope 1/2 at 0
    "logistic": sigmoid,
}

# The slope of each activation, from its value.
_SLOPES = {
    "tanh": lambda h: 1 - h * h,
    "relu": lambda h: (h > 0).astype(h.dtype),
    "logistic": lambda h: h * (1 - h),
}

# The second derivative of each over its slope, from its value.
_BENDS = {
    "tanh": lambda h: -2 * h,
    "relu": np.zeros_like,
    "logistic": lambda h: 1 - 2 * h,
}


@dataclass(frozen=True, eq=False)
class Elman(Dense):
    """h_t = phi(W x_t + U h_{t-1} + b).

    h: state (hidden_size). x: input (input_size). W (hidden_size, input_size) ~ N(0, 1 / input_size),
    U (hidden_size, hidden_size) ~ N(0, 1 / hidden_size), b (hidden_size) = 0.
    phi: tanh, relu or logistic.

    J_t = diag(phi') U: products vanish when max(phi') ||U||_2 < 1 (Pascanu, Mikolov & Bengio 2013,
    section 2.1). The slope of relu at 0 is taken as 0.

    Elman (1990), Finding structure in time.
    """

    name = "elman"
    kernel = "gradsim_cells.kernels.elman"

    activation: Literal["tanh", "relu", "logistic"] = "tanh"

    def init_params(self, rng):
        recurrent = normal(rng, self.hidden_size, self.hidden_size)
        return {
            "W": normal(rng, self.hidden_size, self.input_size),
            "U": recurrent,
            "b": np.zeros(self.hidden_size),
        }

    def unit(self, sums, old, xp):
        return ACTIVATIONS[self.activation](sums[0], xp)

    def slopes(self, sums, old, data):
        slopes = _SLOPES[self.activation](ACTIVATIONS[self.activation](sums, np))
        return Slopes([(0, 0, slopes[None])], [], [])

    def bends(self, sums, old, weights, data):
        h = ACTIVATIONS[self.activation](sums, np)
        found = np.zeros(weights.shape[1:], dtype=sums.dtype)
        found[0] = weights[0, 0] * _SLOPES[self.activation](h) * _BENDS[self.activation](h)
        return found

    @property
    def kernel_options(self):
        return (list(ACTIVATIONS).index(self.activation),)
