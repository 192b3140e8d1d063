"""The minimal gated recurrent unit, whose Jacobian is diagonal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim_cells.algebra import bias_vjp, normal, sigmoid, weight_vjp
from gradsim_cells.elementwise import ElementwiseSteps, recurrence


@dataclass(frozen=True, eq=False)
class MinGRU(Weighted):
    """h_t = (1 - z) * h_{t-1} + z * n, with z = sigmoid(W_z x_t + b_z) and n = W_n x_t + b_n.

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size) and b (2n) are in the order
    z, n. W ~ N(0, 1 / input_size), b = 0 except b_z = update_bias.

    The gates do not see the state: J_t = diag(1 - z), and the products are elementwise.

    Feng et al. (2024), Were RNNs all we needed?, the version in plain (not logarithmic) space.
    """

    name = "min_gru"

    paths = ("update", "candidate")
    admits = ("update",)

    update_bias: float = 0.0

    @property
    def jacobian_groups(self):
        return self.hidden_size

    @property
    def gates(self):
        return dict.fromkeys(("W", "b"), self.paths)

    def init_params(self, rng):
        n = self.hidden_size
        bias = np.concatenate((np.full(n, self.update_bias), np.zeros(n)))
        return {"W": normal(rng, 2 * n, self.input_size), "b": bias}

    def step(self, params, state, inputs, xp):
        z, candidate = self._gates(params, inputs, xp)
        return (1 - z) * state + z * candidate

    def _gates(self, params, inputs, xp):
        n = self.hidden_size
        a = inputs @ params["W"].T + params["b"]
        return through(sigmoid(a[..., :n], xp), "update"), through(a[..., n:], "candidate")

    def unroll(self, params, state, inputs, step_data, parallel):
        z, candidate = self._gates(params, inputs, np)
        states = recurrence(1 - z, state, z * candidate)
        return ElementwiseSteps(self, params, states, inputs, step_data, 1 - z)

    def step_jacobian(self, params, state, inputs):
        return self._kept(params, inputs)[..., None, None]

    def state_vjp(self, params, state, inputs, cotangent):
        return cotangent * self._kept(params, inputs)

    def _kept(self, params, inputs):
        """1 - z, without the candidate."""
        n = self.hidden_size
        return 1 - sigmoid(inputs @ params["W"][:n].T + params["b"][:n], np)

    def params_vjp(self, params, state, inputs, cotangent):
        z, candidate = self._gates(params, inputs, np)
        d = np.concatenate((cotangent * (candidate - state) * z * (1 - z), cotangent * z), axis=-1)
        return {"W": weight_vjp(d, inputs), "b": bias_vjp(d)}
