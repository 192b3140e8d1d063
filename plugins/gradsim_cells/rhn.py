"""The recurrent highway network."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class RHN(Weighted):
    """s^l = g^l * t^l + s^{l-1} * c^l for l = 1 .. depth, within one step: s^0 = h_{t-1} and h_t = s^depth.

    Candidate g^l = tanh(.), transform gate t^l = sigmoid(.) and carry gate c^l = sigmoid(.) of
    U^l s^{l-1} + b^l, to which W x_t is added in the first layer. With `coupled` gates c^l = 1 - t^l.

    h: state (hidden_size = n). x: input. Rows of W (2n, input_size) and, for each layer, of U1 .. (2n, n) and
    b1 .. (2n) are in the order g, t; where gates are not coupled there are 3n, in the order g, t, c.
    W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0 except b_t = transform_bias,
    and b_c = -transform_bias.

    J_t is the product of the Jacobians of its layers; the gates say where the eigenvalues of each may lie, by
    Gersgorin's theorem. Depth 1, coupled, is the UGRNN with the sign of its gate changed.

    Zilly, Srivastava, Koutnik & Schmidhuber (2017), Recurrent highway networks, equations 6-9.
    """

    name = "rhn"

    depth: PositiveInt = 3
    coupled: bool = True
    transform_bias: float = -2.0

    keeps = ("carry",)
    admits = ("transform",)

    @property
    def paths(self):
        return ("candidate", "transform") if self.coupled else ("candidate", "transform", "carry")

    @property
    def recurrent_weights(self):
        return tuple(f"U{layer}" for layer in self._layers)

    @property
    def gates(self):
        return dict.fromkeys(("W", *(f"{p}{layer}" for layer in self._layers for p in "Ub")), self.paths)

    @property
    def _layers(self):
        return range(1, self.depth + 1)

    def init_params(self, rng):
        n, rows = self.hidden_size, len(self.paths)
        bias = np.repeat([0.0, self.transform_bias, -self.transform_bias][:rows], n)
        params = {"W": normal(rng, rows * n, self.input_size)}
        for layer in self._layers:
            params |= {f"U{layer}": normal(rng, rows * n, n), f"b{layer}": bias.copy()}
        return params

    def step(self, params, state, inputs, xp):
        for layer in self._layers:
            sums = state @ params[f"U{layer}"].T + params[f"b{layer}"]
            if layer == 1:
                sums = sums + inputs @ params["W"].T
            candidate, *gates = parts(sums, self.hidden_size)
            candidate = through(xp.tanh(candidate), "candidate")
            transform = through(sigmoid(gates[0], xp), "transform")
            carry = 1 - transform if self.coupled else through(sigmoid(gates[1], xp), "carry")
            state = candidate * transform + state * carry
        return state
