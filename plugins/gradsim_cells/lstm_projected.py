"""The long short-term memory that sees a projection of what it makes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class LSTMProjected(Weighted):
    """c_t = f * c_{t-1} + i * g and h_t = V (o * tanh(c_t)), with h smaller than c.

    Gates i, f, o = sigmoid(.) and candidate g = tanh(.) of W x_t + U h_{t-1} + b.

    State: blocks h, of projection_size = p, and c, of hidden_size = n. Rows of W (4n, input_size), U (4n, p)
    and b (4n) are in the order i, f, g, o; V (p, n). W ~ N(0, 1 / input_size), U ~ N(0, 1 / p),
    V ~ N(0, 1 / n), b = 0 except b_f = forget_bias.

    It has 4np + pn recurrent weights where an LSTM has 4n^2. What goes back through the gates has to pass p
    dimensions; the gradient along c does not.

    Sak, Senior & Beaufays (2014), Long short-term memory recurrent neural network architectures for large
    scale acoustic modeling. There the gates see c through peepholes, too; PyTorch's `proj_size`
    is as here.
    """

    name = "lstm_projected"

    projection_size: PositiveInt = 8
    forget_bias: float = 1.0

    paths = ("input", "forget", "candidate", "output")
    keeps = ("forget",)
    admits = ("input",)

    @property
    def blocks(self):
        return {"h": self.projection_size, "c": self.hidden_size}

    @property
    def gates(self):
        return dict.fromkeys(("W", "U", "b"), self.paths)

    def init_params(self, rng):
        n, p = self.hidden_size, self.projection_size
        return {
            "W": normal(rng, 4 * n, self.input_size),
            "U": normal(rng, 4 * n, p),
            "V": normal(rng, p, n),
            "b": np.repeat([0.0, self.forget_bias, 0.0, 0.0], n),
        }

    def step(self, params, state, inputs, xp):
        h, c = self.split(state)
        i, f, g, o = parts(inputs @ params["W"].T + h @ params["U"].T + params["b"], self.hidden_size)
        i, f, g, o = sigmoid(i, xp), sigmoid(f, xp), xp.tanh(g), sigmoid(o, xp)
        i, f, g, o = (through(gate, path) for gate, path in zip((i, f, g, o), self.paths, strict=True))
        c = f * c + i * g
        return xp.concat(((o * xp.tanh(c)) @ params["V"].T, c), axis=-1)
