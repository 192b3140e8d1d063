"""The multiplicative long short-term memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class MultiplicativeLSTM(Weighted):
    """An LSTM that sees m_t = (W_m x_t) * (U_m h_{t-1}) in place of h_{t-1}.

    c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t), with i, f, o = sigmoid(.) and g = tanh(.) of
    W x_t + U m_t + b.

    State: blocks h and c, each hidden_size = n. Rows of W (4n, input_size), U (4n, n) and b (4n) are in the
    order i, f, g, o; W_m (n, input_size), U_m (n, n). W, W_m ~ N(0, 1 / input_size), U, U_m ~ N(0, 1 / n) and
    b = 0 except b_f = forget_bias.

    Each input has a recurrent weight of its own, U diag(W_m x_t) U_m, and with it a step Jacobian of its
    own: where x_t = 0 nothing passes from h_{t-1}.

    Krause, Lu, Murray & Renals (2016), Multiplicative LSTM for sequence modelling. The mLSTM of
    Beck et al. (2024), with a matrix for its memory, is another cell.
    """

    name = "multiplicative_lstm"

    forget_bias: float = 1.0

    paths = ("input", "forget", "candidate", "output")
    keeps = ("forget",)
    admits = ("input",)
    recurrent_weights = ("U_m", "U")

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    @property
    def gates(self):
        return dict.fromkeys(("W", "U", "b"), self.paths)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 4 * n, self.input_size),
            "W_m": normal(rng, n, self.input_size),
            "U": normal(rng, 4 * n, n),
            "U_m": normal(rng, n, n),
            "b": np.repeat([0.0, self.forget_bias, 0.0, 0.0], n),
        }

    def step(self, params, state, inputs, xp):
        h, c = self.split(state)
        m = (inputs @ params["W_m"].T) * (h @ params["U_m"].T)
        i, f, g, o = parts(inputs @ params["W"].T + m @ params["U"].T + params["b"], self.hidden_size)
        i, f, g, o = sigmoid(i, xp), sigmoid(f, xp), xp.tanh(g), sigmoid(o, xp)
        i, f, g, o = (through(gate, path) for gate, path in zip((i, f, g, o), self.paths, strict=True))
        c = f * c + i * g
        return xp.concat((o * xp.tanh(c), c), axis=-1)
