"""The fast gated recurrent network: a gate and a candidate of the same weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Term, through
from gradsim_cells.algebra import normal, sigmoid
from gradsim_cells.derived_weights import DerivedDense


@dataclass(frozen=True, eq=False)
class FastGRNN(DerivedDense):
    """h_t = (sigmoid(zeta) (1 - z) + sigmoid(nu)) * n + z * h_{t-1}.

    Gate z = sigmoid(a + b_z) and candidate n = tanh(a + b_n) are made of the same a = W x_t + U h_{t-1}.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n),
    b (2n) = 1 in the order z, n; zeta = 1 and nu = -4 are numbers (1). These starts of b, zeta and nu are
    those of the authors' code.

    Kusupati, Singh, Bhatia, Kumar, Jain & Varma (2018), FastGRNN: a fast, accurate, stable and tiny kilobyte
    sized gated recurrent neural network, section 3.2, without its low rank and sparse weights.
    """

    name = "fast_grnn"
    sums = 4
    paths = ("update", "candidate")
    keeps = ("update",)

    @property
    def gates(self):
        return {"b": self.paths}

    @property
    def terms(self):
        n = self.hidden_size
        return *super().terms, Term("zeta", "1", column=2 * n), Term("nu", "1", column=3 * n)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, n),
            "b": np.ones(2 * n),
            "zeta": np.array([1.0]),
            "nu": np.array([-4.0]),
        }

    def weights(self, params, xp):
        twice = {name: xp.concat((params[name], params[name])) for name in ("W", "U")}
        shape = (self.hidden_size,)
        return {**params, **twice, **{n: xp.broadcast_to(params[n], shape) for n in ("zeta", "nu")}}

    def unit(self, sums, old, xp):
        z, candidate, zeta, nu = sums
        z, candidate = through(sigmoid(z, xp), "update"), through(xp.tanh(candidate), "candidate")
        return (sigmoid(zeta, xp) * (1 - z) + sigmoid(nu, xp)) * candidate + z * old[0]
