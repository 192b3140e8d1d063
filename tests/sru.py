"""A cell whose output is not a block of its state."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class SRU(Cell):
    """c_t = f * c_{t-1} + (1 - f) * W x_t, read as r * c_t + (1 - r) * x_t (Lei et al. 2018, r without c)."""

    name = "highway_sru"
    input_size: PositiveInt = 1

    @property
    def blocks(self):
        return {"c": self.input_size}

    @property
    def jacobian_groups(self):
        return self.input_size

    def init_params(self, rng):
        n = self.input_size
        drawn = {name: rng.standard_normal((n, n)) / np.sqrt(n) for name in ("W", "W_f", "W_r")}
        return drawn | {"v": rng.uniform(-1, 1, n), "b_f": np.zeros(n), "b_r": np.zeros(n)}

    def step(self, params, state, inputs, xp):
        f = xp.tanh(inputs @ params["W_f"].T + params["v"] * state + params["b_f"]) / 2 + 0.5
        return f * state + (1 - f) * (inputs @ params["W"].T)

    def output(self, params, state, inputs, xp):
        r = xp.tanh(inputs @ params["W_r"].T + params["b_r"]) / 2 + 0.5
        return r * state + (1 - r) * inputs
