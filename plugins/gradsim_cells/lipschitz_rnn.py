"""The Lipschitz recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Term
from gradsim.types import NonNegativeFloat, PositiveFloat, Probability
from gradsim_cells.algebra import normal
from gradsim_cells.derived_weights import DerivedDense


@dataclass(frozen=True, eq=False)
class LipschitzRNN(DerivedDense):
    """h_t = h_{t-1} + e (A h_{t-1} + tanh(W x_t + U h_{t-1} + b)), with e = `time_step`.

    A and U are (1 - s) (M + M^T) + s (M - M^T) - g I, each of an M of its own, with s = `skew` and
    g = `damping`.

    h: state (hidden_size = n). x: input. M_A and M_U (n, n) ~ N(0, 1 / n), W (n, input_size) ~
    N(0, 1 / input_size), b (n) = 0.

    It is an equation dh/dt by the steps of Euler. J_t = I + e (A + diag(tanh') U). At s = 1 the symmetric
    part of A and U is -g I. Where that of A is so negative that its smallest singular value is above the
    largest of U, the equation forgets its first state exponentially (theorem 1). The authors call s beta and
    U W, and take small e and g and M of much smaller variance, as each task needs.

    Erichson, Azencot, Queiruga, Hodgkinson & Mahoney (2021), Lipschitz recurrent neural networks.
    """

    name = "lipschitz_rnn"
    sums = 2
    recurrent_weights = ("M_A", "M_U")

    time_step: PositiveFloat = 0.03
    skew: Probability = 0.75
    damping: NonNegativeFloat = 0.001

    @property
    def terms(self):
        n = self.hidden_size
        return Term("U", "h"), Term("W", "x", column=n), Term("b", "1", column=n)

    def init_params(self, rng):
        n = self.hidden_size
        w = normal(rng, n, self.input_size)
        return {"M_A": normal(rng, n, n), "M_U": normal(rng, n, n), "W": w, "b": np.zeros(n)}

    def weights(self, params, xp):
        def made(m):
            unit, turned = xp.eye(m.shape[0], dtype=m.dtype), xp.matrix_transpose(m)
            return (1 - self.skew) * (m + turned) + self.skew * (m - turned) - self.damping * unit

        u = xp.concat((made(params["M_A"]), made(params["M_U"])))
        return {"U": u, "W": params["W"], "b": params["b"]}

    def unit(self, sums, old, xp):
        linear, a = sums
        return old[0] + self.time_step * (linear + xp.tanh(a))
