"""The structurally constrained recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Weighted
from gradsim.types import PositiveInt, Probability
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class SCRN(Weighted):
    """s_t = (1 - a) B x_t + a s_{t-1} and h_t = sigmoid(W x_t + P s_t + U h_{t-1}), with a = `keep`.

    State: h (hidden_size = n), fast, and the context s (context_size = k), slow; a readout sees both.
    x: input. W (n, input_size) and B (k, input_size) ~ N(0, 1 / input_size), P (n, k) ~ N(0, 1 / k),
    U (n, n) ~ N(0, 1 / n). There is no bias.

    ds_t/ds_k = a^(t-k) I whatever the weights are, and s does not see h: P(t, k) is block triangular, and
    what outlives the fast part has the rate a. The authors write A, R for W, U, and a = 0.95.

    Mikolov, Joulin, Chopra, Mathieu & Ranzato (2014), Learning longer memory in recurrent neural networks,
    eq. 3 and 4.
    """

    name = "scrn"

    context_size: PositiveInt = 32
    keep: Probability = 0.95

    @property
    def blocks(self):
        return {"h": self.hidden_size, "s": self.context_size}

    @property
    def output_blocks(self):
        return ("h", "s")

    @property
    def recurrent_weights(self):
        return ("U",)

    def init_params(self, rng):
        n, k = self.hidden_size, self.context_size
        return {
            "W": normal(rng, n, self.input_size),
            "B": normal(rng, k, self.input_size),
            "P": normal(rng, n, k),
            "U": normal(rng, n, n),
        }

    def step(self, params, state, inputs, xp):
        h, s = self.split(state)
        s = (1 - self.keep) * (inputs @ params["B"].T) + self.keep * s
        h = sigmoid(inputs @ params["W"].T + s @ params["P"].T + h @ params["U"].T, xp)
        return xp.concat((h, s), axis=-1)
