"""The addition-subtraction twin-gated recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim_cells.algebra import normal, sigmoid


@dataclass(frozen=True, eq=False)
class ATR(Dense):
    """h_t = sigmoid(p + q) * p + sigmoid(p - q) * h_{t-1}, with p = W x_t + b and q = U h_{t-1}.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n),
    b (n) = 0.

    The gates have no weights of their own: where q opens the first one, for the input, it closes the second,
    which keeps the state. The state is not bounded, as p passes no activation.

    Zhang, Xiong, Su, Lin & Zhang (2018), Simplifying neural machine translation with addition-subtraction
    twin-gated recurrent networks. Implementations differ in whether p has a bias.
    """

    name = "atr"
    sums = 2

    @property
    def paths(self):
        return ("input", "forget")

    @property
    def terms(self):
        return Term("W", "x"), Term("b", "1"), Term("U", "h", column=self.hidden_size)

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": normal(rng, n, self.input_size), "U": normal(rng, n, n), "b": np.zeros(n)}

    def unit(self, sums, old, xp):
        p, q = sums
        i, f = through(sigmoid(p + q, xp), "input"), through(sigmoid(p - q, xp), "forget")
        return i * p + f * old[0]
