"""Steps of a cell whose parameters are derived from others: evaluated before all, pulled back after all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Self

import numpy as np

from gradsim.contracts.trajectory import Parallel, Pulled, Trajectory
from gradsim.types import Array, Params, StepData

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell


@dataclass(frozen=True)
class Evaluated:
    """A cell with nothing left to derive, its parameters, and how a gradient of them gets back.

    `back` takes a gradient of these parameters to one of those that they were made of.
    """

    cell: Cell
    params: Params
    back: Callable[[Params], Params]

    def unroll(
        self,
        outer: Cell,
        params: Params,
        state: Array,
        inputs: Array,
        step_data: StepData,
        parallel: Parallel,
    ) -> EvaluatedSteps:
        """The steps of `outer`, whose parameters these were made of."""
        data = {n: step_data[n] for n in self.cell.step_data}
        taken = self.cell.unroll(self.params, state, inputs, data, parallel)
        return EvaluatedSteps(outer, params, taken.states, inputs, step_data, taken, self.back)


@dataclass(frozen=True, eq=False)
class EvaluatedSteps(Trajectory):
    """Steps of the cell with nothing left to derive, `taken`, told by the parameters they were made of."""

    taken: Trajectory
    back: Callable[[Params], Params]

    def __getitem__(self, steps: range) -> Self:
        """See `Trajectory`."""
        first = self.taken.first - self.first
        taken = self.taken[range(steps.start + first, steps.stop + first)]
        return replace(super().__getitem__(steps), taken=taken)

    def pull(self, incoming: Array, direct: Array) -> PulledBack:
        """See `Trajectory.pull`."""
        return PulledBack(self.taken.pull(incoming, direct), self.back)

    def pull_one(self, row: int, adjoint: Array) -> Array:
        """See `Trajectory.pull_one`."""
        return self.taken.pull_one(row, adjoint)


@dataclass(frozen=True, eq=False)
class PulledBack:
    """What the evaluated steps make of an adjoint, for the parameters that theirs are made of."""

    pulled: Pulled
    back: Callable[[Params], Params]

    @property
    def adjoints(self) -> Array:
        """See `Pulled`."""
        return self.pulled.adjoints

    def contributions(self) -> Params:
        """See `Pulled`; step by step, which costs as many ways back."""
        return each_back(self.back, self.pulled.contributions(), len(self.adjoints) - 1)

    def gradient(self) -> Params:
        """See `Pulled`; one way back."""
        return self.back(self.pulled.gradient())


def each_back(back: Callable[[Params], Params], found: Params, *lead: int) -> Params:
    """Gradients with leading axes `lead`, each taken back by itself."""
    flat = {n: g.reshape(-1, *g.shape[len(lead) :]) for n, g in found.items()}
    ways = [back({n: g[i] for n, g in flat.items()}) for i in range(int(np.prod(lead)))]
    return {n: np.stack([way[n] for way in ways]).reshape((*lead, *ways[0][n].shape)) for n in ways[0]}
