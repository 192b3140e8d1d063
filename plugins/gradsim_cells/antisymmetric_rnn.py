"""The antisymmetric recurrent network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import through
from gradsim.types import NonNegativeFloat, PositiveFloat
from gradsim_cells.algebra import normal, sigmoid
from gradsim_cells.derived_weights import DerivedDense


@dataclass(frozen=True, eq=False)
class AntisymmetricRNN(DerivedDense):
    """h_t = h_{t-1} + e tanh(W x_t + (U - U^T - g I) h_{t-1} + b), with e = `time_step`, g = `diffusion`.

    If it is `gated`, the tanh is multiplied by sigmoid(W_z x_t + (U - U^T - g I) h_{t-1} + b_z), with the
    same recurrent weight.

    h: state (hidden_size = n). x: input. U (n, n) ~ N(0, 1 / n), W (n, input_size) ~ N(0, 1 / input_size),
    b (n) = 0; if gated W and b have 2n rows, first those of the gate z.

    It is an equation dh/dt by the steps of Euler. J_t = I + e diag(tanh') (U - U^T - g I): the eigenvalues of
    U - U^T are imaginary, those of the equation near them, and so those of J_t near 1 for small e. g makes up
    for the steps of Euler, which without it grow: |1 + i e w| > 1.

    Chang, Chen, Haber & Chi (2019), AntisymmetricRNN: a dynamical system view on recurrent neural networks,
    eq. 8 to 11.
    """

    name = "antisymmetric_rnn"

    time_step: PositiveFloat = 0.1
    diffusion: NonNegativeFloat = 0.01
    gated: bool = False

    @property
    def sums(self):
        return 2 if self.gated else 1

    @property
    def paths(self):
        return ("input", "candidate") if self.gated else ()

    @property
    def gates(self):
        return dict.fromkeys(("W", "b"), self.paths) if self.gated else {}

    def init_params(self, rng):
        n, rows = self.hidden_size, self.sums * self.hidden_size
        return {"W": normal(rng, rows, self.input_size), "U": normal(rng, n, n), "b": np.zeros(rows)}

    def weights(self, params, xp):
        u = params["U"]
        u = u - xp.matrix_transpose(u) - self.diffusion * xp.eye(u.shape[0], dtype=u.dtype)
        return {**params, "U": xp.concat((u, u)) if self.gated else u}

    def unit(self, sums, old, xp):
        if not self.gated:
            return old[0] + self.time_step * xp.tanh(sums[0])
        z, candidate = through(sigmoid(sums[0], xp), "input"), through(xp.tanh(sums[1]), "candidate")
        return old[0] + self.time_step * z * candidate
