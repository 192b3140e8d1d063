"""A range of steps of a run, and the way back through them.

Step t leads from the state at time t - 1 to the state at time t: steps are 1..T, times 0..T. Arrays along
steps begin with step 1, arrays along times with time 0. `step_rows` and `time_rows` are the only places
where one is turned into the other.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, Self

import numpy as np

from gradsim.numerics import autodiff
from gradsim.numerics.blocks import dense_blocks, through_blocks
from gradsim.numerics.scaled import range_end
from gradsim.types import Array, Params, StepData

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell

Parallel = Callable[[Sequence[Callable[[], None]]], None]
"""Does independent jobs, on as many threads as the run has."""

_SMALL_JACOBIAN = 4096
"""Numbers of a free step Jacobian, of a whole batch, up to which to make it takes less time than to trace the
step: each operation of a trace takes some 10 us, and a number some ns where there are those of many steps."""

_PIECE_BYTES = 2**20
"""Step Jacobians that the way back keeps at a time."""


def one_by_one(jobs: Sequence[Callable[[], None]]) -> None:
    """Do the jobs on this thread."""
    for job in jobs:
        job()


def step_rows(steps: range) -> slice:
    """Where some steps lie in an array along all steps."""
    return slice(steps.start - 1, steps.stop - 1)


def time_rows(steps: range) -> slice:
    """Where the times after some steps lie in an array along all times; time 0 goes with step 1."""
    return slice(steps.start if steps.start > 1 else 0, steps.stop)


_LOOK = 16
"""Steps after which `pulled_back` looks whether adjoints are still in range."""


def pulled_back(adjoints: Array, pull: Callable[[int], None]) -> int:
    """Call `pull` for rows T - 1, T - 2, ... 0 of `adjoints` (T + 1, batch, m), each of which it fills.

    It ends where the range of the dtype does: the first row that is filled is returned.
    """
    for stop in range(len(adjoints) - 1, 0, -_LOOK):
        start = max(stop - _LOOK, 0)
        for row in range(stop - 1, start - 1, -1):
            pull(row)
        if (end := range_end(adjoints[start : stop + 1])) is not None:
            return start + end
    return 0


class Pulled(Protocol):
    """What some steps make of an adjoint that comes in at their end: all of them, or the last ones."""

    @property
    def adjoints(self) -> Array:
        """(steps + 1, batch, m): the adjoints of the states, the last one as it came in."""

    def contributions(self) -> Params:
        """What enters dL/dparams at each step, (steps, *param), summed over the batch."""

    def gradient(self) -> Params:
        """The sum of the contributions."""


@dataclass(frozen=True, eq=False)
class Trajectory:
    """Some steps of a run: where they start, what drives them, and the states that they lead to.

    `states` (steps + 1, batch, m) begin with the one before the first step; before the steps have been
    taken there is only that one. `inputs` and `step_data` have leading axes (steps, batch). `first` is the
    number of the first step. ``trajectory[steps]`` is a shorter one, of views.

    A cell that can do better over many steps at once returns an object of a subclass from `unroll`, with a
    `pull` of its own. Arrays that the subclass keeps for each step are named in `by_step`.
    """

    by_step: ClassVar[tuple[str, ...]] = ()

    cell: Cell
    params: Params
    states: Array
    inputs: Array
    step_data: StepData
    first: int = field(default=1, kw_only=True)

    @property
    def steps(self) -> range:
        """The numbers of the steps."""
        return range(self.first, self.first + len(self.inputs))

    @property
    def before(self) -> Array:
        """The state before each step, (steps, batch, m)."""
        return self.states[: len(self.inputs)]

    @property
    def after(self) -> Array:
        """The state after each step, (steps, batch, m)."""
        return self.states[1:]

    def __getitem__(self, steps: range) -> Self:
        """These steps of it."""
        if steps == self.steps:
            return self
        first, last = steps.start - self.first, steps.stop - self.first
        rows = slice(first, last)
        kept = {name: getattr(self, name)[rows] for name in self.by_step}
        return replace(
            self,
            states=self.states[first : last + 1],
            inputs=self.inputs[rows],
            step_data={n: x[rows] for n, x in self.step_data.items()},
            first=steps.start,
            **kept,
        )

    def with_states(self, states: Array) -> Trajectory:
        """The same steps, taken: with all states (steps + 1, batch, m)."""
        return Trajectory(self.cell, self.params, states, self.inputs, self.step_data, first=self.first)

    def call(self, method: Callable[..., Any], *more: Any) -> Any:
        """Call a method of the cell, such as `step_jacobian`, for all steps at once."""
        return method(self.params, self.before, self.inputs, *more, **self.step_data)

    def jacobian(self) -> Array:
        """The step Jacobian J_t of each step as a full matrix, (steps, batch, m, m)."""
        return dense_blocks(self.call(self.cell.step_jacobian))

    def params_jacobian(self, rows: Array | None = None) -> Params:
        """The derivative of the state after each step at a fixed one before: (steps, batch, m, *param).

        Of combinations of its components, if given as `rows` (r, m): (steps, batch, r, *param).
        """
        steps, batch, m = self.before.shape
        traced = self.cell.free and autodiff.provider() is autodiff.AUTOGRAD
        count = sum(p.size for p in self.params.values())
        if traced and (rows is None or count < len(rows) * steps * batch):
            # A column of all positions then takes no longer than a row of one.
            units = {n: np.eye(p.size, dtype=p.dtype).reshape(-1, *p.shape) for n, p in self.params.items()}
            found = {n: np.moveaxis(c, 0, -1) for n, c in self.params_jvp(units).items()}
            found = found if rows is None else {n: rows @ c for n, c in found.items()}
            return {n: c.reshape(*c.shape[:-1], *self.params[n].shape) for n, c in found.items()}
        rows = np.eye(m, dtype=self.states.dtype) if rows is None else rows
        unit = np.broadcast_to(rows[:, None, None, None], (len(rows), steps, batch, 1, m))

        def alone(x: Array) -> Array:
            return np.broadcast_to(x[:, :, None], (len(rows), steps, batch, 1, *x.shape[2:]))

        # Each batch element is a batch of its own here, or contributions would be summed over it.
        data = {n: alone(x) for n, x in self.step_data.items()}
        found = self.cell.params_vjp(self.params, alone(self.before), alone(self.inputs), unit, **data)
        return {n: np.moveaxis(g, 0, 2) for n, g in found.items()}

    def params_jvp(self, tangents: Params) -> Params:
        """How the state after each step, at a fixed one before, moves with tangents of the parameters.

        Tangents (copies, *param), each of one parameter alone, give (copies, steps, batch, m), by name.
        """
        return autodiff.params_jvp(
            self.cell.step, self.params, self.before, self.inputs, tangents, self.step_data
        )

    def inputs_vjp(self, adjoints: Array) -> Array:
        """dL/dx of each step, (steps, batch, input), from the adjoints after each step."""
        return autodiff.provider().inputs_vjp(
            self.cell.step, self.params, self.before, self.inputs, adjoints, self.step_data
        )

    def pull(self, incoming: Array, direct: Array) -> Pulled:
        """Carry adjoints back: a_{t-1} = a_t J_t + q_{t-1}, as far as the range of the dtype reaches.

        A pull may stop after any step but none, and had better stop where an adjoint vanishes or explodes:
        whatever comes before it would be computed in vain, and subnormal numbers are slow. What it returns is
        that of the last k >= 1 steps then: k + 1 adjoints, contributions of k steps and their sum. The rest
        is asked for anew, scaled by a power of two. All adjoints but the earliest one, in which no
        contribution and no gradient takes part, should lie in range, which `pulled_back` sees to. One that
        does not stop is right as well: what lies beyond the range is thrown away and asked for again.

        Parameters
        ----------
        incoming
            (batch, m): the adjoint of `states[-1]`.
        direct
            (steps, batch, m): q, the direct derivative of the loss with respect to `states[:-1]`.
        """
        adjoints = np.empty((len(direct) + 1, *direct.shape[1:]), dtype=direct.dtype)
        adjoints[-1] = incoming

        def pull(row: int) -> None:
            np.add(self.pull_one(row, adjoints[row + 1]), direct[row], out=adjoints[row])

        first = pulled_back(adjoints, pull)
        return PulledByVjp(self[self.steps[first:]] if first else self, adjoints[first:])

    def pull_one(self, row: int, adjoint: Array) -> Array:
        """`adjoint` (batch, m) of `states[row + 1]` times the step Jacobian."""
        if self.by_blocks:
            return through_blocks(adjoint, self._blocks[row])
        here = {n: x[row] for n, x in self.step_data.items()}
        return self.cell.state_vjp(self.params, self.states[row], self.inputs[row], adjoint, **here)

    @cached_property
    def by_blocks(self) -> bool:
        """Whether step Jacobians, made for many steps in one call, are sooner than `state_vjp` at each."""
        numbers = self.states[0].size * self.cell.state_size // self.cell.jacobian_groups
        return numbers <= _SMALL_JACOBIAN and not self.cell.analytic("state_vjp")

    @cached_property
    def _blocks(self) -> _Blocks:
        return _Blocks(self)

    def contributions(self, adjoints: Array) -> Params:
        """What enters dL/dparams at each step, (steps, *param), from the adjoints after each step."""
        found: Params = self.call(self.cell.params_vjp, adjoints)
        return found

    def gradient(self, adjoints: Array) -> Params:
        """The sum of the contributions, with time and batch as one axis."""

        def flat(x: Array) -> Array:
            return x.reshape(len(x) * x.shape[1], *x.shape[2:])

        data = {n: flat(x) for n, x in self.step_data.items()}
        return self.cell.params_vjp(self.params, flat(self.before), flat(self.inputs), flat(adjoints), **data)


class _Blocks:
    """The step Jacobians of a trajectory, made for many steps at once when the last of them is read."""

    def __init__(self, trajectory: Trajectory) -> None:
        self._trajectory, self._rows = trajectory, range(0)

    def __getitem__(self, row: int) -> Array:
        """(batch, g, k, k) of one step."""
        if row not in self._rows:
            taken = self._trajectory
            size = taken.states[0].nbytes * taken.cell.state_size // taken.cell.jacobian_groups
            self._rows = range(max(0, row + 1 - max(1, _PIECE_BYTES // size)), row + 1)
            steps = taken.steps[self._rows.start : self._rows.stop]
            self._made = taken[steps].call(taken.cell.step_jacobian)
        return np.asarray(self._made[row - self._rows.start])


@dataclass(frozen=True, eq=False)
class PulledByVjp:
    """Contributions and gradient from the cell's `params_vjp`."""

    trajectory: Trajectory
    adjoints: Array

    def contributions(self) -> Params:
        """One call for all steps."""
        return self.trajectory.contributions(self.adjoints[1:])

    def gradient(self) -> Params:
        """One call, with time and batch as one axis."""
        return self.trajectory.gradient(self.adjoints[1:])


def shortened(pulled: Pulled, steps: Trajectory) -> Pulled:
    """What only these last ones of the steps make of the same adjoint; itself where they are all."""
    adjoints, count = pulled.adjoints, len(steps.steps)
    return pulled if len(adjoints) == count + 1 else PulledByVjp(steps, adjoints[-count - 1 :])
