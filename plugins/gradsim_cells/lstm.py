"""The long short-term memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, through
from gradsim.contracts.dense import Slopes
from gradsim_cells.algebra import sigmoid


@dataclass(frozen=True, eq=False)
class LSTM(Dense):
    """c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t).

    Gates i, f, o = sigmoid(.) and candidate g = tanh(.) of W x_t + U h_{t-1} + b.

    State: blocks h and c, each hidden_size = n. Rows of W (4n, input_size), U (4n, n) and b (4n)
    are in the order i, f, g, o. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0 except
    b_f = forget_bias.

    With gates that see no state, dc_T/dc_0 = diag of the product of all f: a forget gate near 1
    keeps the gradient. diag f is the direct share of J, beside the paths through the gates. dh_t/dh_k
    is a block of the product of *joint* Jacobians.

    Hochreiter & Schmidhuber (1997), Long short-term memory; with the forget gate of Gers,
    Schmidhuber & Cummins (2000), and its bias as Jozefowicz, Zaremba & Sutskever (2015) advise.
    """

    name = "lstm"
    gate_names = ("input", "forget", "candidate", "output")
    keeps = ("forget",)
    admits = ("input",)
    kernel = "gradsim_cells.kernels.lstm"

    forget_bias: float = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    def init_params(self, rng):
        params = super().init_params(rng)
        params["b"][self.hidden_size : 2 * self.hidden_size] = self.forget_bias
        return params

    def unit(self, sums, old, xp):
        i, f, g, o = sums
        gates = sigmoid(i, xp), sigmoid(f, xp), xp.tanh(g), sigmoid(o, xp)
        i, f, g, o = (through(gate, path) for gate, path in zip(gates, self.paths, strict=True))
        c = f * old[1] + i * g
        return o * xp.tanh(c), c

    def slopes(self, sums, old, data):
        n = self.hidden_size
        gates = sigmoid(sums, np)
        i, f, o = gates[..., :n], gates[..., n : 2 * n], gates[..., 3 * n :]
        g, c = np.tanh(sums[..., 2 * n : 3 * n]), old[..., n:]
        tanh_c = np.tanh(f * c + i * g)
        by_c = np.stack((g * i * (1 - i), c * f * (1 - f), i * (1 - g * g)))
        by_h = (tanh_c * o * (1 - o))[None]
        return Slopes([(0, 3, by_h), (1, 0, by_c)], [(1, 1, f)], [(1, 0, o * (1 - tanh_c * tanh_c))])

    def bends(self, sums, old, weights, data):
        n = self.hidden_size
        gates, c = sigmoid(sums, np), old[..., n:]
        i, f, o = gates[..., :n], gates[..., n : 2 * n], gates[..., 3 * n :]
        i_slope, f_slope, o_slope = (x * (1 - x) for x in (i, f, o))
        g = np.tanh(sums[..., 2 * n : 3 * n])
        g_slope, tanh_c = 1 - g * g, np.tanh(f * c + i * g)
        # The new c by i, f, g and the old c; h by c, and by o.
        by_i, by_f, by_g, by_c, of_h = g * i_slope, c * f_slope, i * g_slope, f, 1 - tanh_c * tanh_c
        h, old_c = weights[0], weights[0, 5]
        through_c = h[0] * by_i + h[1] * by_f + h[2] * by_g + old_c * by_c
        at_c = of_h * (o_slope * h[3] - 2 * tanh_c * o * through_c)
        of_i, of_f, of_g, _, _, of_c = of_h * o * h + weights[1]
        found = np.zeros(weights.shape[1:], dtype=old.dtype)
        found[0] = i_slope * ((1 - 2 * i) * g * of_i + g_slope * of_g) + by_i * at_c
        found[1] = f_slope * ((1 - 2 * f) * c * of_f + of_c) + by_f * at_c
        found[2] = g_slope * (i_slope * of_i - 2 * g * i * of_g) + by_g * at_c
        found[3] = o_slope * (of_h * through_c + (1 - 2 * o) * tanh_c * h[3])
        found[5] = f_slope * of_f + by_c * at_c
        return found

    @property
    def kernel_saves(self):
        """The gates i, f, g, o, and tanh(c)."""
        return 5 * self.hidden_size
