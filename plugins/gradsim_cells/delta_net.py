"""Fast weights that are written by the delta rule."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.types import PositiveInt
from gradsim_cells.algebra import affine, before_softplus, normal, sigmoid, softplus


@dataclass(frozen=True, eq=False)
class DeltaNet(Weighted):
    """M_t = M_{t-1} + beta (v - M_{t-1} k) k^T, read as M_t q: what k recalls is moved towards v.

    v = W_v x_t + b_v, q = W_q x_t + b_q, and k is W_k x_t + b_k over its length. beta = sigmoid(w x_t + b) is
    one number; twice that with ``negative_eigenvalues``.

    If `gated`, M_{t-1} is forgotten before, all of it at once: alpha M_{t-1} is in its place, with
    alpha = exp(-exp(log_A) softplus(W_alpha x_t + b_alpha)), one number.

    State: block M, hidden_size * key_size: entry (row, column) lies at column * hidden_size + row. W_q, W_k
    (key_size, input_size), W_v (hidden_size, input_size), W_beta and W_alpha (1, input_size)
    ~ N(0, 1 / input_size). The biases of the keys and queries are N(0, 1), the others 0, except b_alpha such
    that the softplus of it is log-uniform between 0.001 and 0.1; exp(log_A) is uniform between 1 and 16.

    Every row of M goes on by the same I - beta k k^T, which is the block of J_t for it, and symmetric, with
    one eigenvalue 1 - beta and all others 1; if gated, by alpha times that. Between 0 and 1, no product of
    them of one key changes sign, and the parity of a sequence cannot be told whatever its length; between -1
    and 1 it can: beta = 2 is a reflection.

    Schlag, Irie & Schmidhuber (2021), Linear transformers are secretly fast weight programmers, with the
    lengths of keys as Yang, Wang, Zhang, Shen & Kim (2024), Parallelizing linear transformers with the delta
    rule over sequence length; gated as Yang, Kautz & Hatamizadeh (2024), Gated delta networks: improving
    Mamba2 with delta rule, eq. 10; Grazzi et al. (2024), Unlocking state-tracking in linear RNNs through
    negative eigenvalues.
    """

    name = "delta_net"

    paths = ("recall",)

    key_size: PositiveInt = 4
    negative_eigenvalues: bool = False
    gated: bool = False

    @property
    def blocks(self):
        return {"M": self.hidden_size * self.key_size}

    @property
    def jacobian_groups(self):
        return self.hidden_size

    @property
    def output_size(self):
        return self.hidden_size

    def init_params(self, rng):
        rows = {"q": self.key_size, "k": self.key_size, "v": self.hidden_size, "beta": 1}
        rows |= {"alpha": 1} if self.gated else {}
        params = {f"W_{name}": normal(rng, count, self.input_size) for name, count in rows.items()}
        biases = {f"b_{name}": np.zeros(count) for name, count in rows.items()}
        for name in ("b_q", "b_k"):
            biases[name] = rng.standard_normal(self.key_size)
        if self.gated:
            biases["b_alpha"] = before_softplus(np.exp(rng.uniform(np.log(0.001), np.log(0.1), 1)))
            biases["log_A"] = np.log(rng.uniform(1, 16, 1))
        return params | biases

    def _memory(self, state, xp):
        """M^T."""
        return xp.reshape(state, (*state.shape[:-1], self.key_size, self.hidden_size))

    def step(self, params, state, inputs, xp):
        k, v = (affine(params, name, inputs) for name in "kv")
        square = xp.sum(k * k, axis=-1)[..., None]
        k = k / xp.sqrt(xp.where(square > 0, square, 1.0))
        beta = sigmoid(affine(params, "beta", inputs), xp) * (2.0 if self.negative_eigenvalues else 1.0)
        if self.gated:
            state = state * xp.exp(-xp.exp(params["log_A"]) * softplus(affine(params, "alpha", inputs), xp))
        recalled = through(xp.sum(self._memory(state, xp) * k[..., None], axis=-2), "recall")
        written = k[..., None] * (beta * (v - recalled))[..., None, :]
        return state + xp.reshape(written, state.shape)

    def output(self, params, state, inputs, xp):
        q = affine(params, "q", inputs)
        return xp.sum(self._memory(state, xp) * q[..., None], axis=-2)
