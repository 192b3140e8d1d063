"""What carries adjoints back through time: the step Jacobians, raw and as mitigations change them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.mitigation import BackwardJacobian, UnreadJacobian
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import steps_region
from gradsim.contracts.trajectory import Unrolled
from gradsim.engine.backward import Change, Return, ThroughJacobians, after
from gradsim.engine.segments import parts, within
from gradsim.engine.stretch import Stretch
from gradsim.errors import NonFiniteError
from gradsim.run.jacobian_stages import Kept
from gradsim.run.mitigated import Mitigated
from gradsim.types import Array, Params


class Raw:
    """The dynamics itself, outside every hook."""

    effective = False
    change = None

    def __init__(self, cell: Cell, params: Params) -> None:
        self.cell, self.params = cell, params

    def jacobians(self, steps: range, taken: Unrolled | None) -> BackwardJacobian:
        """The step Jacobians of the cell; all losses reach all the way."""
        assert taken is not None
        blocks = self.cell.step_jacobian(self.params, taken.states[:-1], taken.inputs, **taken.step_data)
        if not np.isfinite(blocks).all():
            t, b = (int(i) for i in np.argwhere(~np.isfinite(blocks))[0][:2])
            where = f"step {steps.start + t}, batch {b}"
            raise NonFiniteError(f"{self.cell!r}: the step Jacobian is not finite, first at {where}")
        blocks.flags.writeable = False
        return BackwardJacobian(blocks, np.zeros(len(steps), dtype=np.int64))

    def backward(self, back: Return, granule: range, taken: Unrolled, direct: Array) -> Iterator[Stretch]:
        """Through the granule as it is."""
        return back.through(granule, taken, direct)


@dataclass(frozen=True)
class Effective:
    """What carries adjoints back when mitigations have changed it."""

    problem: Problem
    raw: Raw
    kept: Kept | None
    mitigated: Mitigated | None
    measured: Mapping[str, Array]
    change: Change | None

    effective = True

    def jacobians(self, steps: range, taken: Unrolled | None) -> BackwardJacobian:
        """The raw step Jacobians, as the mitigations that change them do."""
        given = UnreadJacobian(lambda: self._given(steps, taken), np.zeros(len(steps), dtype=np.int64))
        return given if self.mitigated is None else self.mitigated.jacobians(steps, given, self.measured)

    def _given(self, steps: range, taken: Unrolled | None) -> Array:
        if self.kept is not None:
            return np.asarray(self.kept.blocks[steps_region(steps)["step"]])
        return self.raw.jacobians(steps, taken).blocks

    def backward(self, back: Return, granule: range, taken: Unrolled, direct: Array) -> Iterator[Stretch]:
        """Through the granule, in parts that have changed Jacobians; or as it is."""
        if self.mitigated is None:
            yield from back.through(granule, taken, direct)
            return
        ranges = parts(granule, self.problem)
        if _unread(self.jacobians(ranges[-1], within(taken, granule, ranges[-1]))):
            whole = self.jacobians(granule, taken)
            if _unread(whole):
                yield from back.through(granule, taken, direct, whole.reach)
                return
        for steps in reversed(ranges):
            here = within(taken, granule, steps)
            made = self.jacobians(steps, here)
            through = ThroughJacobians(
                here.cell, here.params, here.states, here.inputs, here.step_data, made.blocks
            )
            rows = slice(steps.start - granule.start, steps.stop - granule.start)
            yield from back.through(steps, through, after(direct, rows), made.reach)


def _unread(made: BackwardJacobian) -> bool:
    """Whether the step Jacobians are as they were, so that the cell's own way back will do."""
    return isinstance(made, UnreadJacobian) and made.unread
