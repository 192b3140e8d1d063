"""The shallow piecewise linear recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal


@dataclass(frozen=True, eq=False)
class ShallowPLRNN(Weighted):
    """h_t = A * h_{t-1} + V relu(U h_{t-1} + c) + W x_t + b.

    h: state (hidden_size = n), z in the paper. x: input. A (n) ~ U(0, 1): a diagonal; V (n, pieces)
    ~ N(0, 1 / pieces) and U (pieces, n) ~ N(0, 1 / n): W_1 and W_2 in the paper; c (pieces) ~ N(0, 1) and
    b (n) = 0: h_2 and h_1; W (n, input_size) ~ N(0, 1 / input_size): C. The start is ours.

    Each of the `pieces` hidden units folds the state space along a hyperplane, and between the folds the
    step is affine: J_t = diag(A) + V diag(1[U h_{t-1} + c > 0]) U. The slope of relu at 0 is taken as 0.

    With ``clipped`` relu(U h + c) - relu(U h) stands in place of relu(U h + c), which is bounded by |c|: then
    the state stays bounded if all |A| < 1, and far away J_t = diag(A).

    Hess et al. (2023), Generalized teacher forcing for learning chaotic dynamics; after Durstewitz
    (2017), A state space approach for piecewise-linear recurrent neural networks.
    """

    name = "shallow_plrnn"

    pieces: PositiveInt = 64
    clipped: bool = False

    def init_params(self, rng):
        n, pieces = self.hidden_size, self.pieces
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, pieces, n),
            "V": normal(rng, n, pieces),
            "A": rng.random(n),
            "b": np.zeros(n),
            "c": rng.standard_normal(pieces),
        }

    def step(self, params, state, inputs, xp):
        plain = state @ params["U"].T
        folded = _relu(plain + params["c"], xp)
        if self.clipped:
            folded = folded - _relu(plain, xp)
        return params["A"] * state + folded @ params["V"].T + inputs @ params["W"].T + params["b"]


def _relu(x, xp):
    return xp.where(x > 0, x, 0.0)
