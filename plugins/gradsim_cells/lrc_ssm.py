"""Liquid neurons with liquid capacitances, that do not see each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Dense, Term, through
from gradsim.types import PositiveFloat
from gradsim_cells.algebra import normal, sigmoid

_OWN = ("a", "c", "g", "g_in", "k", "k_in", "leak", "w", "rest")


@dataclass(frozen=True, eq=False)
class LrcSSM(Dense):
    """h_t = h_{t-1} + d * e * (-f * h_{t-1} + z * rest): liquid resistance, liquid capacitance.

    With own = sigmoid(a * h_{t-1} + c) and seen = sigmoid(W_s x_t + b_s), the conductance is
    f = sigmoid(g * own + g_in * seen + leak), the current z = tanh(k * own + k_in * seen + leak), and the
    elastance e = sigmoid(w * h_{t-1} + W_e x_t + b_e). d is the `time_step`.

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size) and b (2n) are in the order s, e. Of
    a, c, g, g_in, k, k_in, leak, w and rest each unit has one. W ~ N(0, 1 / input_size), b = 0, the others
    are uniform between -1 / sqrt(n) and 1 / sqrt(n).

    J_t is diagonal. Where f, z and e see no state, J_t = diag(1 - d f e), which is between 0 and 1 for d <=
    1.

    Farsang, Hasani, Rus & Grosu (2025), Parallelization of non-linear state-space models: scaling up
    liquid-resistance liquid-capacitance networks for efficient sequence modeling. Their code has a
    sigmoid for each input, in place of one for each unit, and no input in e.
    """

    name = "lrc_ssm"
    gate_names = ("synapse", "elastance")
    sums = 2 + len(_OWN)

    time_step: PositiveFloat = 1.0

    @property
    def terms(self):
        own = (Term(name, "1", column=i * self.hidden_size) for i, name in enumerate(_OWN, 2))
        return Term("W", "x"), Term("b", "1"), *own

    @property
    def gates(self):
        return dict.fromkeys(("W", "b"), self.gate_names)

    @property
    def paths(self):
        return ("conductance", "current", "elastance")

    def init_params(self, rng):
        n = self.hidden_size
        own = {name: rng.uniform(-1, 1, n) / np.sqrt(n) for name in _OWN}
        return {"W": normal(rng, 2 * n, self.input_size), "b": np.zeros(2 * n), **own}

    def unit(self, sums, old, xp):
        (s, e, a, c, g, g_in, k, k_in, leak, w, rest), (h,) = sums, old
        own, seen = sigmoid(a * h + c, xp), sigmoid(s, xp)
        f = through(sigmoid(g * own + g_in * seen + leak, xp), "conductance")
        z = through(xp.tanh(k * own + k_in * seen + leak), "current")
        return h + self.time_step * through(sigmoid(w * h + e, xp), "elastance") * (z * rest - f * h)
