"""Undamped oscillators that do not see each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term
from gradsim.types import NonNegativeFloat, PositiveFloat
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class UnICORNN(Dense):
    """z_t = z_{t-1} - s * (tanh(w * y_{t-1} + W x_t + b) + alpha y_{t-1}) and y_t = y_{t-1} + s * z_t.

    s = time_step sigmoid(c) is the time step of each unit.

    State: blocks y (positions, which are read) and z (velocities), each hidden_size = n. x: input. W (n,
    input_size) ~ N(0, 1 / input_size), w (n) is uniform between 0 and 1, c (n) between -0.1 and 0.1, b (n) =
    0.

    It is the symplectic Euler step of y'' = -sigmoid(c)^2 (tanh(w y + W x + b) + alpha y), which is a
    Hamiltonian system: J_t has a 2 x 2 block of determinant 1 for each unit, so that no product vanishes.

    Rusch & Mishra (2021), UnICORNN: a recurrent model for learning very long time dependencies, one layer of
    it.
    """

    name = "unicornn"
    sums = 3

    time_step: PositiveFloat = 0.1
    alpha: NonNegativeFloat = 1.0

    @property
    def blocks(self):
        return {"y": self.hidden_size, "z": self.hidden_size}

    @property
    def terms(self):
        n = self.hidden_size
        own = Term("w", "1", column=n), Term("c", "1", column=2 * n)
        return Term("W", "x"), Term("b", "1"), *own

    def init_params(self, rng):
        n = self.hidden_size
        weights = normal(rng, n, self.input_size)
        own = {"w": rng.uniform(0, 1, n), "c": rng.uniform(-0.1, 0.1, n)}
        return {"W": weights, "b": np.zeros(n), **own}

    def unit(self, sums, old, xp):
        (a, w, c), (y, z) = sums, old
        step = self.time_step * sigmoid(c, xp)
        z = z - step * (xp.tanh(w * y + a) + self.alpha * y)
        return y + step * z, z
