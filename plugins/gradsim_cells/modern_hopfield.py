"""The modern Hopfield network with continuous states, as a recurrent cell."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Weighted
from gradsim.types import PositiveFloat, PositiveInt
from gradsim_cells.algebra import normal, softmax


@dataclass(frozen=True, eq=False)
class ModernHopfield(Weighted):
    """h_t = U^T softmax(beta U (h_{t-1} + W x_t)): the state moves to the stored patterns that it is like.

    h: state (hidden_size = n), xi in the paper. x: input, which the paper does not have: with x = 0 the step
    is its update. U (patterns, n) ~ N(0, 1): one stored pattern a row, X^T in the paper.
    W (n, input_size) ~ N(0, 1 / input_size).

    J_t = beta U^T (diag p - p p^T) U, with p the softmax: symmetric, with no negative eigenvalue, and beta
    times the covariance of the patterns under p. Near a pattern that is far from all others p is one-hot and
    J_t is 0: what is retrieved in one step has forgotten where it came from. With a small beta all states
    meet near the mean of the patterns, and J_t vanishes with beta; what carries gradients lies between, where
    patterns share a fixed point. Without inputs no step raises the energy
    h^T h / 2 - log sum_i exp(beta u_i^T h) / beta.

    Ramsauer et al. (2020), Hopfield networks is all you need, eq. 3.
    """

    name = "modern_hopfield"

    patterns: PositiveInt = 16
    beta: PositiveFloat = 0.1

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": normal(rng, n, self.input_size), "U": rng.standard_normal((self.patterns, n))}

    def step(self, params, state, inputs, xp):
        like = (state + inputs @ params["W"].T) @ params["U"].T
        return softmax(self.beta * like, xp) @ params["U"]
