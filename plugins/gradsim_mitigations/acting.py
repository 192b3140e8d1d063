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
        refuse_names(self, shapes)
        if not self.acts_on(cell):
            raise InputError(
                f"{self.name}: {cell.name} has no recurrent weights that train; leave it out or give names"
            )
        for name in self.acts_on(cell):
            shape = shapes[name]
            if len(shape) != 2 or shape[0] % shape[1]:
                raise InputError(f"{self.name}: {name} should have shape (r n, n), not {shape}")
        refuse_fixed(self, self.acts_on(cell), cell)

    def refuse_params(self, cell, params):
        """The same, of these parameters."""
        self.refuse(cell, {n: p.shape for n, p in params.items()})

    def acts_on(self, cell):
        """The names of the weights."""
        if self.names is not None:
            return tuple(dict.fromkeys(self.names))
        return tuple(n for n in cell.recurrent_weights if n not in cell.fixed)

    def each_block(self, change, cell, params):
        """What `change` makes of all blocks (r, n, n) of each weight, in their place."""
        changed = {n: change(squares(params[n])).reshape(params[n].shape) for n in self.acts_on(cell)}
        return params | {n: w.astype(params[n].dtype) for n, w in changed.items()}


@dataclass(frozen=True, eq=False)
class OnParams(Mitigation):
    """One that acts on parameters of any shape.

    `names` says which; by default all with two or more axes, which leaves biases alone.
    """

    names: tuple[str, ...] | None = field(default=None, kw_only=True)

    def refuse(self, cell, shapes):
        self.refuse_none(cell, shapes)
        refuse_fixed(self, self.names or (), cell)

    def refuse_none(self, cell, shapes):
        """Raise unless there are parameters to act on."""
        refuse_names(self, shapes)
        if not self.acts_on(shapes):
            raise InputError(
                f"{self.name}: no parameter of {cell.name} has two or more axes; leave it out or give names"
            )

    def acts_on(self, shapes):
        """The names of the parameters."""
        chosen = self.names
        return tuple(n for n, shape in shapes.items() if (len(shape) >= 2 if chosen is None else n in chosen))


def refuse_names(mitigation, shapes):
    """Raise unless its `names` are left out, or those of some parameters."""
    refuse_empty(mitigation, "names")
    for name in mitigation.names or ():
        if name not in shapes:
            raise unknown(f"parameter in {mitigation.name}", name, shapes)


def refuse_fixed(mitigation, names, cell):
    """Raise if one of these parameters never changes."""
    for name in names:
        if name in cell.fixed:
            raise InputError(f"{mitigation.name}: {name} is fixed, and no training changes it; leave it out")


def refuse_empty(mitigation, option):
    """Raise if an option that names what a mitigation acts on names nothing."""
    if getattr(mitigation, option) == ():
        raise InputError(f"{mitigation.name}: {option} are empty; name some, or leave them out")


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
        refuse_empty(self, "blocks")
        names = cell.output_blocks if self.blocks is None else dict.fromkeys(self.blocks)
        return np.concatenate([np.arange(cell.state_size)[cell.block(name)] for name in names])
