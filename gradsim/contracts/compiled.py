"""Steps that a library takes and pulls back, all in one call."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Self

from gradsim.contracts.trajectory import PulledByVjp, Trajectory
from gradsim.numerics.autodiff import Block
from gradsim.types import Array, Params


@dataclass(frozen=True, eq=False)
class CompiledSteps(Trajectory):
    """Steps of a block; the first one is that of its row `row`."""

    block: Block
    row: int = 0

    def __getitem__(self, steps: range) -> Self:
        """See `Trajectory`."""
        return replace(super().__getitem__(steps), row=self.row + steps.start - self.first)

    def pull(self, incoming: Array, direct: Array) -> PulledCompiled:
        """See `Trajectory.pull`."""
        adjoints, gradient = self.block.pull(self.row, incoming, direct)
        return PulledCompiled(self[self.steps[1 - len(adjoints) :]], adjoints, gradient)


@dataclass(frozen=True, eq=False)
class PulledCompiled(PulledByVjp):
    """Contributions from the cell's `params_vjp`; the gradient was made on the way."""

    made: Params

    def gradient(self) -> Params:
        """See `Pulled`."""
        return self.made
