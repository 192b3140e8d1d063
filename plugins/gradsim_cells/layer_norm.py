"""Layer normalisation around any cell."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradsim import Cell, Wrapper
from gradsim.errors import unknown
from gradsim.types import PositiveFloat
from gradsim_cells.algebra import standardised
from gradsim_cells.lstm import LSTM


@dataclass(frozen=True, eq=False)
class LayerNorm(Wrapper):
    """h_t = g * (h' - mean h') / sqrt(var h' + epsilon) + b, for blocks h' of what the cell inside makes.

    mean and var: over the n units of the block. g (n) = 1, b (n) = 0, as `g_h` and `b_h` for a block h.
    `normalised` names the blocks; where it is empty they are those that are read, such as h of an LSTM, whose
    c then goes on as it is: a c that is normalised at each step would forget by that alone.

    The *new state* is normalised, after all activations, as a wrapper sees no other. The paper normalises
    what goes into the activations: the two differ in what an activation makes of a normalised sum.

    J_t of the block is diag(g) (I - 1 1^T / n - y y^T / n) / sigma J_f, with sigma = sqrt(var h' + epsilon)
    and y = (h' - mean h') / sigma: no gradient goes through the mean of h', next to none through its length,
    and all of it is divided by sigma. Two units are 1 and -1 whatever they are: have three or more.

    Ba, Kiros & Hinton (2016), Layer normalization, eq. 3-4.
    """

    name = "layer_norm"

    cell: Cell = field(default_factory=LSTM)
    normalised: tuple[str, ...] = ()
    epsilon: PositiveFloat = 1e-5

    jacobian_groups = 1

    def __post_init__(self):
        super().__post_init__()
        for block in self.normalised:
            if block not in self.blocks:
                raise unknown(f"block of {self.cell.name} for LayerNorm", block, self.blocks)

    @property
    def _names(self):
        return self.normalised or self.output_blocks

    def own_params(self, rng):
        start = {"g": np.ones, "b": np.zeros}
        return {f"{p}_{n}": made(self.blocks[n]) for n in self._names for p, made in start.items()}

    def mix(self, own, state, inputs, new, xp):
        blocks = dict(zip(self.blocks, self.split(new), strict=True))
        for name in self._names:
            h = standardised(blocks[name], self.epsilon, xp)
            blocks[name] = own[f"g_{name}"] * h + own[f"b_{name}"]
        return xp.concat(tuple(blocks.values()), axis=-1)
