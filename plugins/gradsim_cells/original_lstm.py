"""The long short-term memory as it was at first, without a forget gate."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Dense, through
from gradsim_cells.algebra import sigmoid


@dataclass(frozen=True, eq=False)
class OriginalLSTM(Dense):
    """c_t = c_{t-1} + i * g and h_t = o * tanh(c_t).

    Gates i, o = sigmoid(.) and candidate g = tanh(.) of W x_t + U h_{t-1} + b.

    State: blocks h and c, each hidden_size = n. Rows of W (3n, input_size), U (3n, n) and b (3n)
    are in the order i, g, o. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0.

    Past the gates dc_t/dc_{t-1} = 1, at every step and whatever the input: the constant error carousel. What
    is stored is never lost, and c grows without bound where i * g does not change its sign.

    Hochreiter & Schmidhuber (1997), Long short-term memory, section 4. There g = 4 sigmoid(.) - 2, and
    2 sigmoid(c) - 1 is in place of tanh(c): the same up to a factor of weights and of the state.
    """

    name = "original_lstm"
    gate_names = ("input", "candidate", "output")
    admits = ("input",)

    @property
    def blocks(self):
        return {"h": self.hidden_size, "c": self.hidden_size}

    def unit(self, sums, old, xp):
        i = through(sigmoid(sums[0], xp), "input")
        g = through(xp.tanh(sums[1]), "candidate")
        o = through(sigmoid(sums[2], xp), "output")
        c = old[1] + i * g
        return o * xp.tanh(c), c
