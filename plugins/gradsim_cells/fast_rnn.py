"""The fast recurrent network: a weighted residual connection."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Term
from gradsim_cells.algebra import sigmoid
from gradsim_cells.derived_weights import DerivedDense


@dataclass(frozen=True, eq=False)
class FastRNN(DerivedDense):
    """h_t = sigmoid(alpha) tanh(W x_t + U h_{t-1} + b) + sigmoid(beta) h_{t-1}.

    h: state (hidden_size = n). x: input. W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n),
    b (n) = 0; alpha = -3 and beta = 3 are numbers (1).

    J_t = sigmoid(alpha) diag(tanh') U + sigmoid(beta) I: two numbers hold its eigenvalues near
    sigmoid(beta), 0.953 at first. Sources differ in how the two start, some with the signs swapped; here as
    in the authors' code.

    Kusupati, Singh, Bhatia, Kumar, Jain & Varma (2018), FastGRNN: a fast, accurate, stable and tiny kilobyte
    sized gated recurrent neural network, section 3.1.
    """

    name = "fast_rnn"
    sums = 3

    @property
    def terms(self):
        n = self.hidden_size
        return *super().terms, Term("alpha", "1", column=n), Term("beta", "1", column=2 * n)

    def init_params(self, rng):
        return {**super().init_params(rng), "alpha": np.array([-3.0]), "beta": np.array([3.0])}

    def weights(self, params, xp):
        shape = (self.hidden_size,)
        return {**params, **{name: xp.broadcast_to(params[name], shape) for name in ("alpha", "beta")}}

    def unit(self, sums, old, xp):
        a, alpha, beta = sums
        return sigmoid(alpha, xp) * xp.tanh(a) + sigmoid(beta, xp) * old[0]
