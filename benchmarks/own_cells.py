"""The five cells as a user's own: a step, the blocks of the state and the first parameters, nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import steps

from gradsim import Cell
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU

SHIPPED = {"elman": Elman, "lstm": LSTM, "gru": GRU, "min_gru": MinGRU, "lru": LRU}


@dataclass(frozen=True, eq=False)
class Own(Cell):
    """Its step, and the parameters and the layout of the state of the cell that ships along."""

    name = "own"
    kind: str = "elman"
    input_size: int = 4
    hidden_size: int = 64

    @property
    def blocks(self):
        n = self.hidden_size
        return {"lstm": {"h": n, "c": n}, "lru": {"re": n, "im": n}}.get(self.kind, {"h": n})

    @property
    def output_blocks(self):
        return ("re", "im") if self.kind == "lru" else ("h",)

    def init_params(self, rng):
        return SHIPPED[self.kind](self.input_size, self.hidden_size).init_params(rng)

    def step(self, params, state, inputs, xp):
        return steps.STEPS[self.kind](xp, params, state, inputs)
