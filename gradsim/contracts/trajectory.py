"""A block of steps that a cell has taken, and the way back through it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from gradsim.types import Array, Params, StepData

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell

Parallel = Callable[[Sequence[Callable[[], None]]], None]
"""Does independent jobs, on as many threads as the run has."""


def one_by_one(jobs: Sequence[Callable[[], None]]) -> None:
    """Do the jobs on this thread."""
    for job in jobs:
        job()


class Pulled(Protocol):
    """What a block makes of an adjoint that comes in at its end."""

    @property
    def adjoints(self) -> Array:
        """(steps + 1, batch, m): the adjoints of `states`, the last one as it came in."""

    def contributions(self) -> Params:
        """What enters dL/dparams at each step, (steps, *param), summed over the batch."""

    def gradient(self) -> Params:
        """The sum of the contributions."""


@dataclass(frozen=True, eq=False)
class Unrolled:
    """Steps that have been taken one after the other, with the cell's own `step` and vjps.

    `states` (steps + 1, batch, m) begin with the one before the first step; `inputs` and `step_data`
    have leading axes (steps, batch). A cell that can do better over many steps at once returns an object
    of a subclass from `unroll`, with a `pull` of its own.
    """

    cell: Cell
    params: Params
    states: Array
    inputs: Array
    step_data: StepData

    def pull(self, incoming: Array, direct: Array) -> Pulled:
        """Carry adjoints back: a_{t-1} = a_t J_t + q_{t-1}.

        Parameters
        ----------
        incoming
            (batch, m): the adjoint of `states[-1]`.
        direct
            (steps, batch, m): q, the direct derivative of the loss with respect to `states[:-1]`.
        """
        adjoints = np.empty((len(direct) + 1, *direct.shape[1:]), dtype=direct.dtype)
        adjoints[-1] = incoming
        for t in range(len(direct) - 1, -1, -1):
            np.add(self.pull_one(t, adjoints[t + 1]), direct[t], out=adjoints[t])
        return PulledByVjp(self, adjoints)

    def part(self, first: int, last: int) -> Unrolled:
        """Steps first..last-1 of these, counted from 0, as views."""
        data = {n: x[first:last] for n, x in self.step_data.items()}
        states = self.states[first : last + 1]
        return replace(self, states=states, inputs=self.inputs[first:last], step_data=data)

    def pull_one(self, t: int, adjoint: Array) -> Array:
        """`adjoint` (batch, m) of `states[t + 1]` times the step Jacobian."""
        here = {n: x[t] for n, x in self.step_data.items()}
        return self.cell.state_vjp(self.params, self.states[t], self.inputs[t], adjoint, **here)


@dataclass(frozen=True, eq=False)
class PulledByVjp:
    """Contributions and gradient from the cell's `params_vjp`."""

    steps: Unrolled
    adjoints: Array

    def contributions(self) -> Params:
        """One call for all steps."""
        s = self.steps
        return s.cell.params_vjp(s.params, s.states[:-1], s.inputs, self.adjoints[1:], **s.step_data)

    def gradient(self) -> Params:
        """One call, with time and batch as one axis."""
        s = self.steps

        def flat(x: Array) -> Array:
            return x.reshape(-1, *x.shape[2:])

        data = {n: flat(x) for n, x in s.step_data.items()}
        return s.cell.params_vjp(
            s.params, flat(s.states[:-1]), flat(s.inputs), flat(self.adjoints[1:]), **data
        )
