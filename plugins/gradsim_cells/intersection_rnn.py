"""The intersection recurrent network, with a gate along time and one along depth."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class IntersectionRNN(Dense):
    """h_t = g * h_{t-1} + (1 - g) * tanh(a_h) along time, y_t = d * s + (1 - d) * relu(a_y) along depth.

    Gates g, d = sigmoid(.), of W x_t + U h_{t-1} + b as a_h and a_y are; s = W_s x_t. y is what is read, and
    what a layer above is fed with.

    State: blocks h and y, each hidden_size = n. x: input. Nothing goes on through y, which is made of
    h_{t-1}. Rows of W (5n, input_size) are in the order g, h, d, y, s, those of U (4n, n) and b (4n) in the
    order g, h, d, y. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0 except b_g = b_d = forget_bias.

    Along time it is the UGRNN, and what is read changes nothing of that. In the paper x_t stands alone in
    place of W_s x_t, which needs inputs of the size of the state; with W_s = I it is the same. TensorFlow's
    cell projects inputs first, for the gates as well. The slope of relu at 0 is taken as 0.

    Collins, Sohl-Dickstein & Sussillo (2017), Capacity and trainability in recurrent neural networks: +RNN.
    """

    name = "intersection_rnn"
    gate_names = ("update", "candidate", "depth", "reading", "skip")
    keeps = ("update",)
    output_blocks = ("y",)

    forget_bias: float = 1.0

    @property
    def blocks(self):
        return dict.fromkeys(("h", "y"), self.hidden_size)

    @property
    def gates(self):
        return {"W": self.gate_names} | dict.fromkeys("Ub", self.gate_names[:4])

    @property
    def paths(self):
        return self.gate_names[:4]  # what skips the cell does not see the state

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 5 * n, self.input_size),
            "U": normal(rng, 4 * n, n),
            "b": np.repeat([self.forget_bias, 0.0, self.forget_bias, 0.0], n),
        }

    def unit(self, sums, old, xp):
        g, candidate, d, reading, skip = sums
        g, d = through(sigmoid(g, xp), "update"), through(sigmoid(d, xp), "depth")
        h = g * old[0] + (1 - g) * through(xp.tanh(candidate), "candidate")
        return h, d * skip + (1 - d) * through(xp.where(reading > 0, reading, 0.0), "reading")
