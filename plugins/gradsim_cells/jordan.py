"""The Jordan network, which is fed with its own output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Weighted
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal, sigmoid

_READINGS = {"identity": lambda a, xp: a, "tanh": lambda a, xp: xp.tanh(a), "logistic": sigmoid}


@dataclass(frozen=True, eq=False)
class Jordan(Weighted):
    """y_t = g(V h_t + c), with the hidden units h_t = tanh(W x_t + U y_{t-1} + b).

    State: the output y (output_units = k), which is all that is fed back. h (hidden_size = n). x: input.
    W (n, input_size) ~ N(0, 1 / input_size), U (n, k) ~ N(0, 1 / k), V (k, n) ~ N(0, 1 / n), b (n) and
    c (k) = 0. g: identity, tanh or logistic.

    J_t = diag(g') V diag(1 - h^2) U: whatever does not show in the output is forgotten at once, and no
    product has a higher rank than the smaller of n and k. Jordan lets the fed-back y also remember itself,
    with a weight mu; here mu = 0, as the network is mostly drawn.

    Jordan (1986), Attractor dynamics and parallelism in a connectionist sequential machine.
    """

    name = "jordan"

    output_units: PositiveInt = 32
    reading: Literal["identity", "tanh", "logistic"] = "tanh"

    @property
    def blocks(self):
        return {"y": self.output_units}

    @property
    def recurrent_weights(self):
        return ("U",) if self.hidden_size % self.output_units == 0 else ()

    def init_params(self, rng):
        n, k = self.hidden_size, self.output_units
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, k),
            "b": np.zeros(n),
            "V": normal(rng, k, n),
            "c": np.zeros(k),
        }

    def step(self, params, state, inputs, xp):
        h = xp.tanh(inputs @ params["W"].T + state @ params["U"].T + params["b"])
        return _READINGS[self.reading](h @ params["V"].T + params["c"], xp)
