"""A cell that sees something else than its state, and what it is forced to see."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from gradsim import Cell, Mitigation, Wrapper, hookimpl
from gradsim.errors import InputError


@dataclass(frozen=True, eq=False)
class Seeing(Wrapper):
    """The cell inside sees keep_t * s_{t-1} + add_t in place of s_{t-1}: J_t = J_f diag(keep_t).

    Step data `keep` and `add` (m) are 1 and 0 unless the mitigation that it is made `by` says otherwise.
    """

    name = "seeing"

    cell: Cell
    by: Mitigation

    @cached_property
    def mix_data(self):
        return {n: self.prefix + n for n in ("keep", "add")}

    def own_draw(self, steps, batch):
        shape = steps, batch, self.state_size
        return {"keep": np.ones(shape), "add": np.zeros(shape)}

    def seen(self, state, data):
        """What the cell inside sees, and the slope of it by the state."""
        keep, add = (data[n] for n in self.mix_data.values())
        return keep * state + add, keep

    def step(self, params, state, inputs, xp, **data):
        return self.cell.step(params, self.seen(state, data)[0], inputs, xp, **self._inside(data))

    @property
    def free(self):
        """Its derivatives are only quicker ones."""
        return self.cell.free

    def step_jacobian(self, params, state, inputs, **data):
        seen, keep = self.seen(state, data)
        inner = self.cell.step_jacobian(params, seen, inputs, **self._inside(data))
        columns = np.moveaxis(keep.reshape(*keep.shape[:-1], -1, self.jacobian_groups), -1, -2)
        return inner * columns[..., None, :]

    def state_vjp(self, params, state, inputs, cotangent, **data):
        seen, keep = self.seen(state, data)
        return keep * self.cell.state_vjp(params, seen, inputs, cotangent, **self._inside(data))

    def params_vjp(self, params, state, inputs, cotangent, **data):
        seen, _ = self.seen(state, data)
        return self.cell.params_vjp(params, seen, inputs, cotangent, **self._inside(data))


@dataclass(frozen=True, eq=False)
class Forcing(Mitigation):
    """One that lets a cell see targets in place of what its units are.

    With k targets they are the first k units of `block`, by default the first one that a readout sees.
    """

    block: str | None = field(default=None, kw_only=True)

    @property
    def idles(self):
        """Whether it never forces anything."""
        return False

    @abstractmethod
    def share(self, steps, draws, moment):
        """How much of the target is in what each of these steps sees, (steps, batch) or such."""

    def refuse(self, task):
        if task is None:
            raise InputError(f"{self.name}: there are no targets to force units to; give task=")

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        self._units(cell)
        return cell if self.idles else Seeing(cell, self)

    def _units(self, cell):
        return cell.block(cell.output_blocks[0] if self.block is None else self.block)

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, cell, episode, draws, moment):
        data = yield
        if moment.validating or self.idles:
            return data
        seeing = self.around(cell)
        targets, at = self._targets(seeing, episode)
        share = self.share(np.arange(2, len(targets) + 1)[:, None], draws[self], moment)
        share = (share * (episode.weights[:-1] != 0))[..., None]
        keep, add = (np.array(data[n]) for n in seeing.mix_data.values())
        keep[1:, :, at], add[1:, :, at] = 1 - share, share * targets[:-1]
        return {**data, **dict(zip(seeing.mix_data.values(), (keep, add), strict=True))}

    def around(self, cell):
        """What it has put around the cell inside."""
        while not (isinstance(cell, Seeing) and cell.by is self):
            cell = cell.cell
        return cell

    def _targets(self, cell, episode):
        """The targets (time, batch, k), and the units that they are for."""
        targets, units = np.asarray(episode.targets), self._units(cell)
        if targets.ndim != 3 or targets.dtype.kind != "f":
            raise InputError(
                f"{self.name}: units are forced to numbers (time, batch, k), and the targets of the task are "
                f"{targets.dtype} of shape {targets.shape}; choose a task such as lorenz"
            )
        k, n = targets.shape[-1], units.stop - units.start
        if k > n:
            raise InputError(
                f"{self.name}: {k} targets need as many units, and the block of {cell.cell.name} has {n}"
            )
        return targets, slice(units.start, units.start + k)
