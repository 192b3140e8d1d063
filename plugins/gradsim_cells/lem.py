"""The long expressive memory."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.types import PositiveFloat
from gradsim_cells.algebra import normal, parts, sigmoid


@dataclass(frozen=True, eq=False)
class LEM(Weighted):
    """z_t = (1 - d) * z_{t-1} + d * tanh(W_z x_t + U_z h_{t-1} + b_z) and, with another step, h_t of z_t.

    h_t = (1 - e) * h_{t-1} + e * tanh(W_h x_t + U_h z_t + b_h). Both steps are learnt, for each unit:
    d = time_step sigmoid(W_d x_t + U_d h_{t-1} + b_d), e = time_step sigmoid(W_e x_t + U_e h_{t-1} + b_e).

    State: blocks h and z, each hidden_size = n. x: input. Rows of W (4n, input_size) and b (4n) are in the
    order d, e, z, h, those of U (3n, n), which multiplies h, in the order d, e, z; U_h (n, n) multiplies z_t.
    W ~ N(0, 1 / input_size), U ~ N(0, 1 / n), b = 0.

    A step near 0 keeps its unit, and its gradient, for as long as 1 / d steps: units have scales of time of
    their own. With `time_step` <= 1 the state stays within [-1, 1]; for time_step -> 0, J_t -> I.

    Rusch, Mishra, Erichson & Mahoney (2022), Long expressive memory for sequence modeling, equation 3. There
    are two steps there and in the authors' code, as here; some descriptions write the same d for both.
    """

    name = "lem"

    time_step: PositiveFloat = 1.0

    paths = ("z_step", "h_step", "z_candidate", "h_candidate")
    admits = ("z_step", "h_step")
    recurrent_weights = ("U", "U_h")

    @property
    def blocks(self):
        return {"h": self.hidden_size, "z": self.hidden_size}

    @property
    def gates(self):
        return {"W": self.paths, "U": self.paths[:3], "b": self.paths}

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 4 * n, self.input_size),
            "U": normal(rng, 3 * n, n),
            "U_h": normal(rng, n, n),
            "b": np.zeros(4 * n),
        }

    def step(self, params, state, inputs, xp):
        n = self.hidden_size
        h, z = self.split(state)
        d, e, for_z, for_h = parts(inputs @ params["W"].T + params["b"], n)
        seen_d, seen_e, seen_z = parts(h @ params["U"].T, n)
        d = through(self.time_step * sigmoid(d + seen_d, xp), "z_step")
        e = through(self.time_step * sigmoid(e + seen_e, xp), "h_step")
        z = (1 - d) * z + d * through(xp.tanh(for_z + seen_z), "z_candidate")
        h = (1 - e) * h + e * through(xp.tanh(for_h + z @ params["U_h"].T), "h_candidate")
        return xp.concat((h, z), axis=-1)
