"""The random rate network, in discrete or continuous time."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim import Weighted
from gradsim.types import NonNegativeFloat
from gradsim_cells.algebra import normal


@dataclass(frozen=True, eq=False)
class RateNetwork(Weighted):
    """h_t = (1 - d) h_{t-1} + d (W x_t + U tanh(h_{t-1}) + b), with d = `time_step`.

    h: state (hidden_size = n), local currents; a readout sees the rates tanh(h). x: input.
    W (n, input_size) ~ N(0, 1 / input_size), U = g J with J (n, n) ~ N(0, 1 / n) and g = `recurrent_scale`,
    b (n) = 0.

    It is dh/dt = -h + U tanh(h) + W x + b by the steps of Euler, in units of the time constant; d = 1 is a
    map. J_t = (1 - d) I + d U diag(1 - tanh(h)^2). Without inputs, and for n to infinity, h = 0 is stable
    for g < 1 and there is chaos for g > 1. With d = 1 then all h are Gaussian of variance q, the solution of
    q = g^2 <tanh^2>, and the largest Lyapunov exponent is ln(g^2 <(1 - tanh^2)^2>) / 2: 0.1547 for g = 2.

    Sompolinsky, Crisanti & Sommers (1988), Chaos in random neural networks; as a map Molgedey, Schuchhardt &
    Schuster (1992), Suppressing chaos in neural networks by noise.
    """

    name = "rate_network"

    time_step: Annotated[float, Interval(gt=0, le=1)] = 0.1
    recurrent_scale: NonNegativeFloat = field(default=1.5, kw_only=True)

    @property
    def recurrent_weights(self):
        return ("U",)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, n),
            "b": np.zeros(n),
        }

    def step(self, params, state, inputs, xp):
        driven = inputs @ params["W"].T + xp.tanh(state) @ params["U"].T + params["b"]
        return (1 - self.time_step) * state + self.time_step * driven

    def output(self, params, state, inputs, xp):
        return xp.tanh(state)
