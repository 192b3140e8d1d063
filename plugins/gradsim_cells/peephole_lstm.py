"""The long short-term memory whose gates see the cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class PeepholeLSTM(Dense):
    """c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t), with gates that see c.

    i and f = sigmoid(W x_t + U h_{t-1} + b + p * c_{t-1}), o = sigmoid(W x_t + U h_{t-1} + b + p * c_t) and
    g = tanh(W x_t + U h_{t-1} + b), each with its own rows.

    State: blocks h and c, each hidden_size = n. Rows of W (4n, input_size), U (4n, n) and b (4n)
    are in the order i, f, g, o; those of p (3n) in the order i, f, o. W ~ N(0, 1 / input_size),
    U ~ N(0, 1 / n), p ~ N(0, 1 / n), b = 0 except b_f = forget_bias.

    With p = 0 it is the LSTM. The old cell reaches the new one through i and f, too, even where U = 0.

    Gers & Schmidhuber (2000), Recurrent nets that time and count; Gers, Schraudolph & Schmidhuber
    (2002), Learning precise timing with LSTM recurrent networks. In the papers the output is
    o * c_t, and errors do not flow back through peepholes; here derivatives are whole.
    """

    name = "peephole_lstm"
    gate_names = ("input", "forget", "candidate", "output")
    keeps = ("forget",)
    admits = ("input",)
    sums = 7

    forget_bias: float = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    @property
    def terms(self):
        return Term("W", "x"), Term("U", "h"), Term("b", "1"), Term("p", "1", column=4 * self.hidden_size)

    @property
    def gates(self):
        return super().gates | {"p": ("input", "forget", "output")}

    def init_params(self, rng):
        n = self.hidden_size
        b = np.zeros(4 * n)
        b[n : 2 * n] = self.forget_bias
        return {
            "W": normal(rng, 4 * n, self.input_size),
            "U": normal(rng, 4 * n, n),
            "b": b,
            "p": rng.standard_normal(3 * n) / np.sqrt(n),
        }

    def unit(self, sums, old, xp):
        i, f, g, o, p_i, p_f, p_o = sums
        i = through(sigmoid(i + p_i * old[1], xp), "input")
        f = through(sigmoid(f + p_f * old[1], xp), "forget")
        c = f * old[1] + i * through(xp.tanh(g), "candidate")
        return through(sigmoid(o + p_o * c, xp), "output") * xp.tanh(c), c
