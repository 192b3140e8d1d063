"""The gated recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell, through
from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_cells.algebra import bias_vjp, diagonal, normal, rows_scaled, sigmoid, weight_vjp
from gradsim_cells.dense import Dense
from gradsim_cells.weights import Term, Weights


@dataclass(frozen=True, eq=False)
class GRU(Dense):
    """h_t = z * h_{t-1} + (1 - z) * n, with gates r, z = sigmoid(W x_t + b + U h_{t-1} + c).

    The candidate is n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n)) with ``reset_after`` (as
    cuDNN and PyTorch have it), or n = tanh(W_n x_t + b_n + U_n (r * h_{t-1}) + c_n) without (as
    Cho et al. 2014, eq. 5-8, who swap the roles of z and 1 - z in the text of the first version).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size), U (3n, n), b and c (3n) are
    in the order r, z, n. W ~ N(0, 1 / input_size), U ~ N(0, gain^2 / n), b = c = 0.

    Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
    """

    name = "gru"
    kernel = "gradsim_cells.kernels.gru"

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    reset_after: bool = True
    gain: NonNegativeFloat = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    @property
    def recurrent_weights(self):
        return ("U",)

    @property
    def paths(self):
        return ("update", "candidate", "reset")  # the reset gate acts within the candidate

    @property
    def gates(self):
        return dict.fromkeys(("W", "U", "b", "c"), ("reset", "update", "candidate"))

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 3 * n, self.input_size),
            "U": normal(rng, 3 * n, n, self.gain),
            "b": np.zeros(3 * n),
            "c": np.zeros(3 * n),
        }

    def step(self, params, state, inputs, xp):
        _, z, candidate, _ = self._gates(params, state, inputs, xp)
        return z * state + (1 - z) * candidate

    def _gates(self, params, state, inputs, xp):
        """(r, z, candidate, U_n h + c_n); the last one only with reset_after."""
        n = self.hidden_size
        x = inputs @ params["W"].T + params["b"]
        u_gates, u_n, c = params["U"][: 2 * n, :], params["U"][2 * n :, :], params["c"]
        gates = sigmoid(x[..., : 2 * n] + state @ u_gates.T + c[: 2 * n], xp)
        r, z = through(gates[..., :n], "reset"), through(gates[..., n:], "update")
        if self.reset_after:
            recurrent = state @ u_n.T + c[2 * n :]
            candidate = xp.tanh(x[..., 2 * n :] + r * recurrent)
        else:
            recurrent, candidate = None, xp.tanh(x[..., 2 * n :] + (r * state) @ u_n.T + c[2 * n :])
        return r, z, through(candidate, "candidate"), recurrent

    def step_jacobian(self, params, state, inputs):
        r, z, candidate, recurrent = self._gates(params, state, inputs, np)
        u_r, u_z, u_n = np.split(params["U"], 3)
        slope = (1 - z) * (1 - candidate * candidate)
        if self.reset_after:
            by_candidate = rows_scaled(slope * r, u_n) + rows_scaled(slope * recurrent * r * (1 - r), u_r)
        else:
            reset = diagonal(r) + rows_scaled(state * r * (1 - r), u_r)
            by_candidate = rows_scaled(slope, u_n) @ reset
        j = diagonal(z) + rows_scaled((state - candidate) * z * (1 - z), u_z) + by_candidate
        return j[..., None, :, :]

    # With reset_after the preactivations are those of n (from x alone), r, z, and U_n h + c_n. Without,
    # the candidate sees a product of a gate and the state, so that a step goes on its own.

    def unroll(self, params, state, inputs, step_data, parallel):
        if not self.reset_after:
            return Cell.unroll(self, params, state, inputs, step_data, parallel)
        return super().unroll(params, state, inputs, step_data, parallel)

    def weights(self, params):
        n = self.hidden_size
        w, b, c = params["W"], params["b"], params["c"]
        bias = np.concatenate((b[2 * n :], b[: 2 * n] + c[: 2 * n], c[2 * n :]))
        return Weights(np.concatenate((w[2 * n :], w[: 2 * n], np.zeros_like(w[:n]))), params["U"], bias, n)

    def terms(self):
        n = self.hidden_size
        gates, candidate, whole = slice(0, 2 * n), slice(2 * n, 3 * n), slice(0, 3 * n)
        return [
            *(Term(name, gates, slice(n, 3 * n), factor) for name, factor in (("W", "x"), ("b", "1"))),
            *(Term(name, candidate, slice(0, n), factor) for name, factor in (("W", "x"), ("b", "1"))),
            *(Term(name, whole, slice(n, 4 * n), factor) for name, factor in (("U", "h"), ("c", "1"))),
        ]

    @property
    def saved_size(self):
        """The candidate n, the gates r and z, and U_n h + c_n."""
        return 4 * self.hidden_size * self.reset_after

    def activate(self, a, old, new, saved):
        n, half = self.hidden_size, a.dtype.type(0.5)
        candidate, gates, z = saved[..., :n], saved[..., n : 3 * n], saved[..., 2 * n : 3 * n]
        np.multiply(a[..., n : 3 * n], half, out=gates)
        np.tanh(gates, out=gates)
        gates *= half
        gates += half
        saved[..., 3 * n :] = a[..., 3 * n :]
        np.multiply(saved[..., n : 2 * n], a[..., 3 * n :], out=candidate)
        candidate += a[..., :n]
        np.tanh(candidate, out=candidate)
        np.subtract(old, candidate, out=new)
        new *= z
        new += candidate

    def slopes(self, old, new, saved):
        """From h to the four parts of a, and z, from h to the old h."""
        candidate, r, z, recurrent = np.split(saved, 4, axis=-1)
        to_n = (1 - z) * (1 - candidate * candidate)
        to_z = (old - candidate) * z * (1 - z)
        return np.concatenate((to_n, to_n * recurrent * r * (1 - r), to_z, to_n * r, z), axis=-1)

    def deactivate(self, adjoint, slopes, d, beside):
        n = self.hidden_size
        for first in range(0, 4 * n, n):
            np.multiply(adjoint, slopes[..., first : first + n], out=d[..., first : first + n])
        np.multiply(adjoint, slopes[..., 4 * n :], out=beside)

    def state_vjp(self, params, state, inputs, cotangent):
        if self.reset_after:
            return super().state_vjp(params, state, inputs, cotangent)
        r, z, dr, dz, dn = self._reset_before(params, state, inputs, cotangent)
        u_r, u_z, u_n = np.split(params["U"], 3)
        return cotangent * z + dz @ u_z + dr @ u_r + (dn @ u_n) * r

    def params_vjp(self, params, state, inputs, cotangent):
        if self.reset_after:
            return super().params_vjp(params, state, inputs, cotangent)
        r, _, dr, dz, dn = self._reset_before(params, state, inputs, cotangent)
        gates = np.concatenate((dr, dz), axis=-1)
        d = np.concatenate((gates, dn), axis=-1)
        u = np.concatenate((weight_vjp(gates, state), weight_vjp(dn, r * state)), axis=-2)
        return {"W": weight_vjp(d, inputs), "U": u, "b": bias_vjp(d), "c": bias_vjp(d)}

    def _reset_before(self, params, state, inputs, cotangent):
        """(r, z, and the cotangents of the preactivations of r, z, candidate)."""
        r, z, candidate, _ = self._gates(params, state, inputs, np)
        dn = cotangent * (1 - z) * (1 - candidate * candidate)
        dz = cotangent * (state - candidate) * z * (1 - z)
        u_n = params["U"][2 * self.hidden_size :]
        return r, z, (dn @ u_n) * state * r * (1 - r), dz, dn
