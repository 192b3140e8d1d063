"""The recurrent network of rectified linear units that starts at the identity."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense
from gradsim_cells.elman import ACTIVATIONS


@dataclass(frozen=True, eq=False)
class IRNN(Dense):
    """h_t = max(W x_t + U h_{t-1} + b, 0), with U = I at first.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 0.001^2), U (n, n) = I, b (n) = 0.
    `recurrent_scale` = s starts at s I, as the authors do for short memories (s = 0.01).

    At first J_t is I where units are active and 0 where they are not, so that no product of Jacobians grows,
    and those of active units do not shrink. Training is free to leave the identity. The slope at 0 is 0.

    Le, Jaitly & Hinton (2015), A simple way to initialize recurrent networks of rectified linear units.
    """

    name = "irnn"
    kernel = "gradsim_cells.kernels.elman"
    kernel_options = (1,)  # relu

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": 0.001 * rng.standard_normal((n, self.input_size)), "U": np.eye(n), "b": np.zeros(n)}

    def unit(self, sums, old, xp):
        return ACTIVATIONS["relu"](sums[0], xp)
