"""The long short-term memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell
from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_cells.algebra import bias_vjp, diagonal, normal, rows_scaled, sigmoid, weight_vjp


@dataclass(frozen=True, eq=False)
class LSTM(Cell):
    """c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t).

    Gates i, f, o = sigmoid(.) and candidate g = tanh(.) of W x_t + U h_{t-1} + b.

    State: blocks h and c, each hidden_size = n. Rows of W (4n, input_size), U (4n, n) and b (4n)
    are in the order i, f, g, o. W ~ N(0, 1 / input_size), U ~ N(0, gain^2 / n), b = 0 except
    b_f = forget_bias.

    With gates that see no state, dc_T/dc_0 = diag of the product of all f: a forget gate near 1
    keeps the gradient. dh_t/dh_k is a block of the product of *joint* Jacobians.

    Hochreiter & Schmidhuber (1997), Long short-term memory; with the forget gate of Gers,
    Schmidhuber & Cummins (2000), and its bias as Jozefowicz, Zaremba & Sutskever (2015) advise.
    """

    name = "lstm"

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    forget_bias: float = 1.0
    gain: NonNegativeFloat = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    @property
    def recurrent_weights(self):
        return ("U",)

    def init_params(self, rng):
        n = self.hidden_size
        bias = np.zeros(4 * n)
        bias[n : 2 * n] = self.forget_bias
        return {"W": normal(rng, 4 * n, self.input_size), "U": normal(rng, 4 * n, n, self.gain), "b": bias}

    def step(self, params, state, inputs, xp):
        _, _, _, o, c = self._gates(params, state, inputs, xp)
        return xp.concatenate((o * xp.tanh(c), c), axis=-1)

    def _gates(self, params, state, inputs, xp):
        """(i, f, g, o, the new c)."""
        n = self.hidden_size
        h, c = self.split(state)
        a = inputs @ params["W"].T + h @ params["U"].T + params["b"]
        i, f, o = (sigmoid(a[..., s * n : (s + 1) * n], xp) for s in (0, 1, 3))
        g = xp.tanh(a[..., 2 * n : 3 * n])
        return i, f, g, o, f * c + i * g

    def step_jacobian(self, params, state, inputs):
        n = self.hidden_size
        i, f, g, o, c = self._gates(params, state, inputs, np)
        u_i, u_f, u_g, u_o = np.split(params["U"], 4)
        old = state[..., n:]
        tanh_c = np.tanh(c)
        j = np.zeros((*state.shape[:-1], 1, 2 * n, 2 * n), dtype=state.dtype)
        from_h = (
            rows_scaled(g * i * (1 - i), u_i)
            + rows_scaled(old * f * (1 - f), u_f)
            + rows_scaled(i * (1 - g * g), u_g)
        )
        to_h = o * (1 - tanh_c * tanh_c)
        j[..., 0, n:, :n] = from_h
        j[..., 0, n:, n:] = diagonal(f)
        j[..., 0, :n, :n] = rows_scaled(to_h, from_h) + rows_scaled(tanh_c * o * (1 - o), u_o)
        j[..., 0, :n, n:] = diagonal(to_h * f)
        return j

    def state_vjp(self, params, state, inputs, cotangent):
        d, dc, f = self._cotangents(params, state, inputs, cotangent)
        return np.concatenate((d @ params["U"], dc * f), axis=-1)

    def params_vjp(self, params, state, inputs, cotangent):
        d, _, _ = self._cotangents(params, state, inputs, cotangent)
        h, _ = self.split(state)
        return {"W": weight_vjp(d, inputs), "U": weight_vjp(d, h), "b": bias_vjp(d)}

    def _cotangents(self, params, state, inputs, cotangent):
        """(cotangent of the preactivations, of the new c, the gate f)."""
        i, f, g, o, c = self._gates(params, state, inputs, np)
        _, old = self.split(state)
        dh, dc = self.split(cotangent)
        tanh_c = np.tanh(c)
        dc = dc + dh * o * (1 - tanh_c * tanh_c)
        parts = (
            dc * g * i * (1 - i),
            dc * old * f * (1 - f),
            dc * i * (1 - g * g),
            dh * tanh_c * o * (1 - o),
        )
        return np.concatenate(parts, axis=-1), dc, f
