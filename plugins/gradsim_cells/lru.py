"""The linear recurrent unit: a complex diagonal recurrence, kept as real and imaginary parts."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradsim import Cell, Initializer
from gradsim.errors import InputError
from gradsim.types import PositiveInt
from gradsim_cells.algebra import weight_vjp
from gradsim_cells.elementwise import ElementwiseSteps, joined, parted, recurrence
from gradsim_initializers import Ring


@dataclass(frozen=True, eq=False)
class LRU(Cell):
    """z_t = lambda * z_{t-1} + gamma * (W x_t), with lambda = exp(-exp(nu) + i exp(theta)).

    State: z = re + i im, blocks re and im, each hidden_size = n. x: input. nu, theta, log_gamma (n),
    W = W_re + i W_im, each (n, input_size) ~ N(0, 1 / (2 input_size)).

    lambda starts as `recurrent_init` says, and gamma at sqrt(1 - |lambda|^2). J_t is the rotation and decay
    by lambda, one 2 x 2 block per unit, and the norm of P(t, k) of a unit is sqrt(2) |lambda|^(t-k).

    Orvieto et al. (2023), Resurrecting recurrent neural networks for long sequences, section 3.
    """

    name = "lru"

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    recurrent_init: Initializer = field(default_factory=Ring)

    @property
    def blocks(self):
        return {"re": self.hidden_size, "im": self.hidden_size}

    @property
    def jacobian_groups(self):
        return self.hidden_size

    @property
    def output_blocks(self):
        return ("re", "im")

    def init_params(self, rng):
        n = self.hidden_size
        eigenvalues = self.recurrent_init.eigenvalues(rng, n)
        size, phase = np.abs(eigenvalues), np.angle(eigenvalues) % (2 * np.pi)
        if not ((size > 0) & (size < 1) & (phase > 0)).all():
            raise InputError(
                f"LRU: recurrent_init={self.recurrent_init!r} should give eigenvalues with 0 < |lambda| < 1 "
                "and a phase that is not 0, as their logarithms are what is trained"
            )
        b = rng.standard_normal((2, n, self.input_size)) / np.sqrt(2 * self.input_size)
        return {
            "nu": np.log(-np.log(size)),
            "theta": np.log(phase),
            "log_gamma": 0.5 * np.log1p(-(size**2)),
            "W_re": b[0],
            "W_im": b[1],
        }

    def _eigenvalues(self, params, xp):
        size, phase = xp.exp(-xp.exp(params["nu"])), xp.exp(params["theta"])
        return size * xp.cos(phase), size * xp.sin(phase)

    def step(self, params, state, inputs, xp):
        a, b = self._eigenvalues(params, xp)
        re, im = self.split(state)
        gamma = xp.exp(params["log_gamma"])
        new_re = a * re - b * im + gamma * (inputs @ params["W_re"].T)
        new_im = a * im + b * re + gamma * (inputs @ params["W_im"].T)
        return xp.concat((new_re, new_im), axis=-1)

    def unroll(self, params, state, inputs, step_data, parallel):
        a, b = self._eigenvalues(params, np)
        factor = np.broadcast_to(a + 1j * b, (len(inputs), 1, len(a)))
        driven = inputs @ np.concatenate((params["W_re"], params["W_im"])).T
        driven *= np.tile(np.exp(params["log_gamma"]), 2)
        states = parted(recurrence(factor, joined(state), joined(driven)))
        return ElementwiseSteps(self, params, states, inputs, step_data, factor)

    def step_jacobian(self, params, state, inputs):
        a, b = self._eigenvalues(params, np)
        block = np.stack((np.stack((a, -b), axis=-1), np.stack((b, a), axis=-1)), axis=-2)
        return np.broadcast_to(block, (*state.shape[:-1], *block.shape)).copy()

    def state_vjp(self, params, state, inputs, cotangent):
        a, b = self._eigenvalues(params, np)
        u, v = self.split(cotangent)
        return np.concatenate((a * u + b * v, a * v - b * u), axis=-1)

    def params_vjp(self, params, state, inputs, cotangent):
        a, b = self._eigenvalues(params, np)
        re, im = self.split(state)
        u, v = self.split(cotangent)
        da, db = (u * re + v * im).sum(axis=-2), (v * re - u * im).sum(axis=-2)
        gamma = np.exp(params["log_gamma"])
        driven = gamma * (u * (inputs @ params["W_re"].T) + v * (inputs @ params["W_im"].T))
        return {
            "nu": -np.exp(params["nu"]) * (da * a + db * b),
            "theta": np.exp(params["theta"]) * (db * a - da * b),
            "log_gamma": driven.sum(axis=-2),
            "W_re": weight_vjp(gamma * u, inputs),
            "W_im": weight_vjp(gamma * v, inputs),
        }
