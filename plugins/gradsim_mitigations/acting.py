"""What a mitigation acts on: weights by name, as square blocks, or blocks of the state."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradsim import Mitigation
from gradsim.errors import InputError, unknown


@dataclass(frozen=True, eq=False)
class OnWeights(Mitigation):
    """One that acts on weights of shape (r n, n), each of their r blocks by itself.

    `names` says which; by default those that the cell calls its recurrent weights.
    """

    names: tuple[str, ...] | None = field(default=None, kw_only=True)

    def refuse(self, cell, shapes):
        if self.names == ():
            raise InputError(f"{self.name}: names are empty; name some, or leave them out")
        if not self.acts_on(cell):
            raise InputError(
                f"{self.name}: {cell.name} has no recurrent weights that train; leave it out or give names"
            )
        refuse_unknown(self, self.acts_on(cell), shapes)
        for name in self.acts_on(cell):
            shape = shapes[name]
            if len(shape) != 2 or shape[0] % shape[1]:
                raise InputError(f"{self.name}: {name} should have shape (r n, n), not {shape}")
            if name in cell.fixed:
                raise InputError(f"{self.name}: {name} is fixed, and no training changes it; leave it out")

    def refuse_params(self, cell, params):
        """The same, of these parameters."""
        self.refuse(cell, {n: p.shape for n, p in params.items()})

    def acts_on(self, cell):
        """The names of the weights."""
        if self.names is not None:
            return self.names
        return tuple(n for n in cell.recurrent_weights if n not in cell.fixed)

    def each_block(self, change, cell, params):
        """What `change` makes of all blocks (r, n, n) of each weight, in their place."""
        changed = {n: change(squares(params[n])).reshape(params[n].shape) for n in self.acts_on(cell)}
        return params | {n: w.astype(params[n].dtype) for n, w in changed.items()}


def refuse_unknown(mitigation, names, shapes):
    """Raise unless there are such parameters."""
    for name in names or ():
        if name not in shapes:
            raise unknown(f"parameter in {mitigation.name}", name, shapes)


def squares(weight):
    """The blocks (r, n, n) of a weight (r n, n)."""
    return weight.reshape(-1, weight.shape[1], weight.shape[1])


def by_square(change, weight, xp):
    """What `change` makes of each block of a weight (r n, n), one below the other; with arrays of `xp`."""
    n = weight.shape[1]
    made = [change(weight[i : i + n, :]) for i in range(0, weight.shape[0], n)]
    return made[0] if len(made) == 1 else xp.concat(made, axis=0)


@dataclass(frozen=True, eq=False)
class OnBlocks(Mitigation):
    """One that acts on blocks of the state; by default on those that a readout sees."""

    blocks: tuple[str, ...] | None = field(default=None, kw_only=True)

    def refuse(self, cell):
        self.units(cell)

    def units(self, cell):
        """Where the blocks lie in the state vector."""
        names = cell.output_blocks if self.blocks is None else dict.fromkeys(self.blocks)
        if not names:
            raise InputError(f"{self.name}: blocks are empty; name some, or leave them out")
        return np.concatenate([np.arange(cell.state_size)[cell.block(name)] for name in names])
