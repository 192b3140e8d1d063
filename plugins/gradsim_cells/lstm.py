"""The long short-term memory."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from gradsim import through
from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_cells.algebra import diagonal, normal, rows_scaled, sigmoid
from gradsim_cells.dense import Dense
from gradsim_cells.weights import Term, Weights


@dataclass(frozen=True, eq=False)
class LSTM(Dense):
    """c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t).

    Gates i, f, o = sigmoid(.) and candidate g = tanh(.) of W x_t + U h_{t-1} + b.

    State: blocks h and c, each hidden_size = n. Rows of W (4n, input_size), U (4n, n) and b (4n)
    are in the order i, f, g, o. W ~ N(0, 1 / input_size), U ~ N(0, gain^2 / n), b = 0 except
    b_f = forget_bias.

    With gates that see no state, dc_T/dc_0 = diag of the product of all f: a forget gate near 1
    keeps the gradient. diag f is the direct share of J, beside the paths through the gates. dh_t/dh_k
    is a block of the product of *joint* Jacobians.

    Hochreiter & Schmidhuber (1997), Long short-term memory; with the forget gate of Gers,
    Schmidhuber & Cummins (2000), and its bias as Jozefowicz, Zaremba & Sutskever (2015) advise.
    """

    name = "lstm"
    kernel = "gradsim_cells.kernels.lstm"

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

    @property
    def paths(self):
        return ("input", "forget", "candidate", "output")

    @property
    def gates(self):
        return dict.fromkeys(("W", "U", "b"), self.paths)

    def init_params(self, rng):
        n = self.hidden_size
        bias = np.zeros(4 * n)
        bias[n : 2 * n] = self.forget_bias
        return {"W": normal(rng, 4 * n, self.input_size), "U": normal(rng, 4 * n, n, self.gain), "b": bias}

    def step(self, params, state, inputs, xp):
        _, _, _, o, c = self._gates(params, state, inputs, xp)
        return xp.concat((o * xp.tanh(c), c), axis=-1)

    def _gates(self, params, state, inputs, xp):
        """(i, f, g, o, the new c)."""
        n = self.hidden_size
        h, c = self.split(state)
        a = inputs @ params["W"].T + h @ params["U"].T + params["b"]
        i, f, g, o = (a[..., s * n : (s + 1) * n] for s in range(4))
        i, f, g, o = sigmoid(i, xp), sigmoid(f, xp), xp.tanh(g), sigmoid(o, xp)
        i, f, g, o = (through(gate, path) for gate, path in zip((i, f, g, o), self.paths, strict=True))
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

    def weights(self, params):
        return Weights(params["W"], params["U"], params["b"])

    def terms(self):
        whole = slice(0, 4 * self.hidden_size)
        return [Term(name, whole, whole, factor) for name, factor in (("W", "x"), ("U", "h"), ("b", "1"))]

    @property
    def saved_size(self):
        """The gates i, f, g, o, and tanh(c)."""
        return 5 * self.hidden_size

    def activate(self, a, old, new, saved):
        n = self.hidden_size
        scale, shift = _sigmoid_or_tanh(n, a.dtype)
        gates, tanh_c = saved[..., : 4 * n], saved[..., 4 * n :]
        a *= scale
        np.tanh(a, out=gates)
        gates *= scale
        gates += shift
        c = new[..., n:]
        np.multiply(gates[..., n : 2 * n], old[..., n:], out=c)
        c += gates[..., :n] * gates[..., 2 * n : 3 * n]
        np.tanh(c, out=tanh_c)
        np.multiply(gates[..., 3 * n :], tanh_c, out=new[..., :n])

    def slopes(self, old, new, saved):
        """From c to i, f, g and from h to o; from h to c; and f, from c to the old c."""
        i, f, g, o, tanh_c = np.split(saved, 5, axis=-1)
        parts = (
            g * i * (1 - i),
            old[..., self.hidden_size :] * f * (1 - f),
            i * (1 - g * g),
            tanh_c * o * (1 - o),
            o * (1 - tanh_c * tanh_c),
            f,
        )
        return np.concatenate(parts, axis=-1)

    def deactivate(self, adjoint, slopes, d, beside):
        n = self.hidden_size
        dh, dc = adjoint[..., :n], adjoint[..., n:]
        dc = dc + dh * slopes[..., 4 * n : 5 * n]
        for gate in range(3):
            part = slice(gate * n, gate * n + n)
            np.multiply(dc, slopes[..., part], out=d[..., part])
        np.multiply(dh, slopes[..., 3 * n : 4 * n], out=d[..., 3 * n :])
        beside[..., :n] = 0
        np.multiply(dc, slopes[..., 5 * n :], out=beside[..., n:])


@functools.cache
def _sigmoid_or_tanh(n, dtype):
    """(scale, shift) by which scale * tanh(scale * a) + shift is a sigmoid for i, f, o and tanh for g."""
    scale = np.repeat(np.array([0.5, 0.5, 1, 0.5], dtype=dtype), n)
    return scale, 1 - scale
