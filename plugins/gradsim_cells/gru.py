"""The gated recurrent unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim.contracts.dense import Slopes
from gradsim_cells.algebra import bias_vjp, diagonal, normal, rows_scaled, sigmoid, weight_vjp


@dataclass(frozen=True, eq=False)
class GRU(Dense):
    """h_t = z * h_{t-1} + (1 - z) * n, with gates r, z = sigmoid(W x_t + b + U h_{t-1} + c).

    The candidate is n = tanh(W_n x_t + b_n + r * (U_n h_{t-1} + c_n)) with ``reset_after`` (as
    cuDNN and PyTorch have it), or n = tanh(W_n x_t + b_n + U_n (r * h_{t-1}) + c_n) without (as
    Cho et al. 2014, eq. 5-8, who swap the roles of z and 1 - z in the text of the first version).

    h: state (hidden_size = n). x: input. Rows of W (3n, input_size), U (3n, n), b and c (3n) are
    in the order r, z, n. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = c = 0.

    Cho et al. (2014), Learning phrase representations using RNN encoder-decoder.
    """

    name = "gru"
    sums = 4
    keeps = ("update",)
    kernel = "gradsim_cells.kernels.gru"

    reset_after: bool = True

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
            "U": normal(rng, 3 * n, n),
            "b": np.zeros(3 * n),
            "c": np.zeros(3 * n),
        }

    @property
    def terms(self):
        """Sums of n (from x alone), r, z, and U_n h + c_n."""
        n = self.hidden_size
        gates, candidate = slice(0, 2 * n), slice(2 * n, 3 * n)
        return (
            *(Term(name, factor, gates, n) for name, factor in (("W", "x"), ("b", "1"))),
            *(Term(name, factor, candidate, 0) for name, factor in (("W", "x"), ("b", "1"))),
            *(Term(name, factor, column=n) for name, factor in (("U", "h"), ("c", "1"))),
        )

    def unit(self, sums, old, xp):
        candidate, r, z, recurrent = sums
        r, z = through(sigmoid(r, xp), "reset"), through(sigmoid(z, xp), "update")
        candidate = through(xp.tanh(candidate + r * recurrent), "candidate")
        return z * old[0] + (1 - z) * candidate

    def slopes(self, sums, old, data):
        n = self.hidden_size
        gates, recurrent = sigmoid(sums[..., n : 3 * n], np), sums[..., 3 * n :]
        r, z = gates[..., :n], gates[..., n:]
        candidate = np.tanh(sums[..., :n] + r * recurrent)
        found = np.empty((4, *r.shape), dtype=old.dtype)
        np.multiply(1 - z, 1 - candidate * candidate, out=found[0])
        np.multiply(found[0], r, out=found[3])
        found[1] = found[3] * recurrent * (1 - r)
        found[2] = (old - candidate) * z * (1 - z)
        return Slopes([(0, 0, found)], [(0, 0, z)], [])

    def bends(self, sums, old, weights, data):
        candidate, r, z, recurrent = self.parted(sums)
        r, z = sigmoid(r, np), sigmoid(z, np)
        candidate = np.tanh(candidate + r * recurrent)
        # What two slopes have in common, and all slopes that have it, weighted.
        r_slope, z_slope, n_slope = r * (1 - r), z * (1 - z), 1 - candidate * candidate
        by_n, by_r, by_z, by_recurrent, by_old = weights[0]
        by_r, common = by_r * r_slope, (1 - z) * n_slope
        weighted = by_n + r * by_recurrent + recurrent * by_r
        found = np.empty(weights.shape[1:], dtype=old.dtype)
        found[0] = -2 * candidate * common * weighted - by_z * z_slope * n_slope
        found[1] = r_slope * (recurrent * found[0] + common * by_recurrent)
        found[1] += (1 - 2 * r) * recurrent * common * by_r
        found[2] = z_slope * (by_old - n_slope * weighted + (1 - 2 * z) * (old - candidate) * by_z)
        found[3] = r * found[0] + common * by_r
        found[4] = by_z * z_slope
        return found

    @property
    def kernel_saves(self):
        """The candidate n, the gates r and z, and U_n h + c_n."""
        return 4 * self.hidden_size

    # Without reset_after the candidate sees a product of a gate and the state: units see each other between
    # two activations, and a step goes on its own.

    @property
    def of_units(self):
        return self.reset_after

    def step(self, params, state, inputs, xp):
        if self.reset_after:
            return super().step(params, state, inputs, xp)
        _, z, candidate = self._reset_before(params, state, inputs, xp)
        return z * state + (1 - z) * candidate

    def unroll(self, params, state, inputs, step_data, parallel):
        cls = super() if self.reset_after else super(Dense, self)
        return cls.unroll(params, state, inputs, step_data, parallel)

    @property
    def saved_size(self):
        return super().saved_size if self.reset_after else 0

    def _reset_before(self, params, state, inputs, xp):
        """(r, z, candidate)."""
        n = self.hidden_size
        x = inputs @ params["W"].T + params["b"]
        u_gates, u_n, c = params["U"][: 2 * n, :], params["U"][2 * n :, :], params["c"]
        gates = sigmoid(x[..., : 2 * n] + state @ u_gates.T + c[: 2 * n], xp)
        r, z = through(gates[..., :n], "reset"), through(gates[..., n:], "update")
        candidate = xp.tanh(x[..., 2 * n :] + (r * state) @ u_n.T + c[2 * n :])
        return r, z, through(candidate, "candidate")

    def step_jacobian(self, params, state, inputs):
        if self.reset_after:
            return super().step_jacobian(params, state, inputs)
        r, z, candidate = self._reset_before(params, state, inputs, np)
        u_r, u_z, u_n = np.split(params["U"], 3)
        reset = diagonal(r) + rows_scaled(state * r * (1 - r), u_r)
        by_candidate = rows_scaled((1 - z) * (1 - candidate * candidate), u_n) @ reset
        j = diagonal(z) + rows_scaled((state - candidate) * z * (1 - z), u_z) + by_candidate
        return j[..., None, :, :]

    def state_vjp(self, params, state, inputs, cotangent):
        if self.reset_after:
            return super().state_vjp(params, state, inputs, cotangent)
        r, z, dr, dz, dn = self._sum_cotangents(params, state, inputs, cotangent)
        u_r, u_z, u_n = np.split(params["U"], 3)
        return cotangent * z + dz @ u_z + dr @ u_r + (dn @ u_n) * r

    def params_vjp(self, params, state, inputs, cotangent):
        if self.reset_after:
            return super().params_vjp(params, state, inputs, cotangent)
        r, _, dr, dz, dn = self._sum_cotangents(params, state, inputs, cotangent)
        gates = np.concatenate((dr, dz), axis=-1)
        d = np.concatenate((gates, dn), axis=-1)
        u = np.concatenate((weight_vjp(gates, state), weight_vjp(dn, r * state)), axis=-2)
        return {"W": weight_vjp(d, inputs), "U": u, "b": bias_vjp(d), "c": bias_vjp(d)}

    def bilinear_vjp(self, params, state, inputs, left, right):
        cls = super() if self.reset_after else super(Dense, self)
        return cls.bilinear_vjp(params, state, inputs, left, right)

    def jacobian_vjp(self, params, state, inputs, cotangent):
        cls = super() if self.reset_after else super(Dense, self)
        return cls.jacobian_vjp(params, state, inputs, cotangent)

    def _sum_cotangents(self, params, state, inputs, cotangent):
        """(r, z, and the cotangents of the sums of r, z, candidate)."""
        r, z, candidate = self._reset_before(params, state, inputs, np)
        dn = cotangent * (1 - z) * (1 - candidate * candidate)
        dz = cotangent * (state - candidate) * z * (1 - z)
        u_n = params["U"][2 * self.hidden_size :]
        return r, z, (dn @ u_n) * state * r * (1 - r), dz, dn
