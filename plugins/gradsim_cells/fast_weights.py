"""Fast weights that attend to the recent past."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Weighted, through
from gradsim.types import NonNegativeFloat, PositiveFloat, PositiveInt, Probability
from gradsim_cells.algebra import normal, standardised


@dataclass(frozen=True, eq=False)
class FastWeights(Weighted):
    """h_t = phi(W x_t + U h_{t-1} + A_{t-1} h' + b), with A_t = decay A_{t-1} + rate h_t h_t^T.

    A are the fast weights, and h' is h_t as it would be without them; with more `inner_steps` the result
    takes its place, again and again.

    State: blocks h (hidden_size = n) and A (n * n, row by row). x: input. W (n, input_size)
    ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n), b (n) = 0. phi: relu or tanh. If `normalised`, as the
    paper has it against fast weights that feed themselves, phi sees g * z + b instead, with g (n) = 1 and z
    the sum without b, less its mean and over its standard deviation; h' is made without that.

    A_{t-1} h' is rate times the sum of decay^(t-1-j) (h_j . h') h_j: past states by their likeness to the
    present one, without a copy of any. Past h dA_t/dA_{t-1} = decay I. The paper starts with
    U = 0.05 I: `recurrent_init` = identity and `recurrent_scale` = 0.05.

    Ba, Hinton, Mnih, Leibo & Ionescu (2016), Using fast weights to attend to the recent past, eq. 1-5.
    """

    name = "fast_weights"

    hidden_size: PositiveInt = 8
    decay: Probability = 0.95
    rate: NonNegativeFloat = 0.5
    inner_steps: PositiveInt = 1
    activation: Literal["relu", "tanh"] = "relu"
    normalised: bool = True
    epsilon: PositiveFloat = 1e-5

    recurrent_weights = ("U",)
    paths = ("fast",)

    @property
    def blocks(self):
        return {"h": self.hidden_size, "A": self.hidden_size**2}

    def init_params(self, rng):
        n = self.hidden_size
        scale = {"g": np.ones(n)} if self.normalised else {}
        return {"W": normal(rng, n, self.input_size), "U": normal(rng, n, n), "b": np.zeros(n), **scale}

    def step(self, params, state, inputs, xp):
        h, fast = self.split(state)
        fast = xp.reshape(fast, (*h.shape, self.hidden_size))
        sums = inputs @ params["W"].T + h @ params["U"].T
        h = self._phi(sums + params["b"], xp)
        for _ in range(self.inner_steps):
            a = sums + through(xp.sum(fast * h[..., None, :], axis=-1), "fast")
            if self.normalised:
                a = params["g"] * standardised(a, self.epsilon, xp)
            h = self._phi(a + params["b"], xp)
        fast = self.decay * fast + self.rate * h[..., None] * h[..., None, :]
        return xp.concat((h, xp.reshape(fast, (*h.shape[:-1], -1))), axis=-1)

    def _phi(self, a, xp):
        return xp.tanh(a) if self.activation == "tanh" else xp.where(a > 0, a, 0.0)
