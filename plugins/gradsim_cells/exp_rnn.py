"""The recurrent network whose weight is the exponential of a skew-symmetric matrix."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Term
from gradsim_cells.algebra import normal
from gradsim_cells.derived_weights import DerivedDense

_HALVINGS = 5

_PADE = (665280, 332640, 75600, 10080, 840, 42, 1)
"""The coefficients of the polynomial p of degree 6 for which exp(X) is about p(-X)^-1 p(X)."""


def rotation(skew, xp):
    """exp(X) of a skew-symmetric X, exact up to ||X||_2 = 30, and orthogonal far beyond."""
    x = skew / 2**_HALVINGS
    square, unit = x @ x, xp.eye(x.shape[0], dtype=x.dtype)
    even = odd = 0.0 * unit
    for i in (6, 4, 2, 0):
        even = even @ square + _PADE[i] * unit
    for i in (5, 3, 1):
        odd = odd @ square + _PADE[i] * unit
    odd = x @ odd
    found = xp.linalg.solve(even - odd, even + odd)
    for _ in range(_HALVINGS):
        found = found @ found
    return found


@dataclass(frozen=True, eq=False)
class ExpRNN(DerivedDense):
    """h_t = modrelu(W x_t + U h_{t-1}) with U = exp(A - A^T), and modrelu(z) = sign(z) max(|z| + b, 0).

    h: state (hidden_size = n). x: input. A (n, n), W (n, input_size) ~ N(0, 1 / input_size), b (n) = 0. At
    first U turns pairs of units by angles that are uniform between -pi and pi (Henaff, Szlam & LeCun 2016).

    J_t = diag(|z| + b > 0) U with orthogonal U, so that no product of Jacobians ever grows; with b = 0
    the cell is linear, and all of them are orthogonal.

    Lezcano-Casado & Martinez-Rubio (2019), Cheap orthogonal constraints in neural networks: a simple
    parametrization of the orthogonal and unitary group.
    """

    name = "exp_rnn"
    sums = 2
    recurrent_weights = ("A",)

    @property
    def terms(self):
        return Term("W", "x"), Term("U", "h"), Term("b", "1", column=self.hidden_size)

    def init_params(self, rng):
        n = self.hidden_size
        first, a = np.arange(0, n - 1, 2), np.zeros((n, n))
        a[first, first + 1] = rng.uniform(-np.pi, np.pi, len(first))
        return {"W": normal(rng, n, self.input_size), "A": a, "b": np.zeros(n)}

    def weights(self, params, xp):
        a = params["A"]
        return {"W": params["W"], "U": rotation(a - xp.matrix_transpose(a), xp), "b": params["b"]}

    def unit(self, sums, old, xp):
        z, b = sums
        return xp.where(xp.abs(z) + b >= 0, z + xp.sign(z) * b, 0.0)
