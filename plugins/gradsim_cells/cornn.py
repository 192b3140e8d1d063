"""The coupled oscillatory recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.types import NonNegativeFloat, PositiveFloat
from gradsim_cells.algebra import normal


@dataclass(frozen=True, eq=False)
class CoRNN(Weighted):
    """h'' = tanh(W x + U h + U_z h' + b) - gamma h - epsilon h': driven oscillators, in steps d = time_step.

    z_t = z_{t-1} + d (tanh(W x_t + U h_{t-1} + U_z z_{t-1} + b) - gamma h_{t-1} - epsilon z) and
    h_t = h_{t-1} + d z_t. The damped velocity z is z_{t-1} or, if it is `implicit`, z_t.

    State: blocks h, the positions, and z, the velocities, each hidden_size = n. x: input. W (n, input_size)
    ~ N(0, 1 / input_size), U and U_z (n, n) ~ N(0, 1 / n), b (n) = 0.

    Without the force tanh(.) the Jacobian of each unit is ((1 - d^2 gamma, d (1 - d epsilon)),
    (-d gamma, 1 - d epsilon)) with the determinant 1 - d epsilon: a step keeps areas where epsilon = 0. For
    d -> 0 it is the identity; the paper bounds gradients by the inverse of d.

    Rusch & Mishra (2021), Coupled oscillatory recurrent neural network (coRNN), equation 3. It allows for
    either velocity; the authors' code damps the old one, z_{t-1}. Their values for sequences of MNIST are
    the default.
    """

    name = "cornn"

    time_step: PositiveFloat = 0.042
    gamma: NonNegativeFloat = 2.7
    epsilon: NonNegativeFloat = 4.7
    implicit: bool = False

    paths = ("force",)
    recurrent_weights = ("U", "U_z")

    @property
    def blocks(self):
        return {"h": self.hidden_size, "z": self.hidden_size}

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, n),
            "U_z": normal(rng, n, n),
            "b": np.zeros(n),
        }

    def step(self, params, state, inputs, xp):
        h, z = self.split(state)
        d, damping = self.time_step, self.time_step * self.epsilon
        sums = inputs @ params["W"].T + h @ params["U"].T + z @ params["U_z"].T + params["b"]
        pushed = z + d * (through(xp.tanh(sums), "force") - self.gamma * h)
        z = pushed / (1 + damping) if self.implicit else pushed - damping * z
        return xp.concat((h + d * z, z), axis=-1)
