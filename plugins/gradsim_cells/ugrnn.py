"""The update-gate recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Dense, through
from gradsim_cells.algebra import sigmoid


@dataclass(frozen=True, eq=False)
class UGRNN(Dense):
    """h_t = g * h_{t-1} + (1 - g) * c.

    Gate g = sigmoid(.) and candidate c = tanh(.) of W x_t + U h_{t-1} + b.

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size), U (2n, n) and b (2n) are in
    the order g, c. W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0 except b_g = update_bias.

    The state stays within [-1, 1] once it is there. With g = 1, state and gradient are kept as they are; with
    g = 0 it is an Elman network.

    Collins, Sohl-Dickstein & Sussillo (2017), Capacity and trainability in recurrent neural networks.
    """

    name = "ugrnn"
    gate_names = ("update", "candidate")
    keeps = ("update",)

    update_bias: float = 1.0

    def init_params(self, rng):
        params = super().init_params(rng)
        params["b"][: self.hidden_size] = self.update_bias
        return params

    def unit(self, sums, old, xp):
        g = through(sigmoid(sums[0], xp), "update")
        return g * old[0] + (1 - g) * through(xp.tanh(sums[1]), "candidate")
