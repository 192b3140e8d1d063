"""The forward pass, segment by segment, and the way back over them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.plugin import calling
from gradsim.contracts.trajectory import Parallel, Trajectory, step_rows
from gradsim.engine.revolve import Schedule
from gradsim.errors import NonFiniteError, PluginError
from gradsim.types import Array


def take(start: Trajectory, steps: range, state: Array, parallel: Parallel) -> Trajectory:
    """The given steps of a trajectory that has not been taken, from the state before the first of them.

    Raises
    ------
    NonFiniteError
        A state is NaN or infinite; names the first time and batch element.
    PluginError
        The cell raises an error, or its own `unroll` returns something else.
    """
    # Where a state leaves the range it is found below, with its place; NumPy need not warn before.
    rows = step_rows(steps)
    data = {n: x[rows] for n, x in start.step_data.items()}
    cell = start.cell
    with np.errstate(all="ignore"), calling(cell, _unrolling(cell), start.params):
        taken = cell.unroll(start.params, state, start.inputs[rows], data, parallel)
    _refuse_other(cell, taken, state, steps)
    _refuse_non_finite(cell, taken.states, steps)
    taken.states.flags.writeable = False  # recorders, hooks and the way back all read the same array
    return replace(taken, first=steps.start)


class Tape:
    """The segments of a run, each as it was taken; what is not kept is taken again.

    `taken` counts steps as often as they were.
    """

    def __init__(
        self, start: Trajectory, segments: list[range], schedule: Schedule, parallel: Parallel
    ) -> None:
        self.start, self.segments, self.schedule, self.parallel = start, segments, schedule, parallel
        for array in (start.states, start.inputs, *start.step_data.values()):
            array.flags.writeable = False
        self.taken = 0
        # Snapshots, the last one on top: number of a segment and the state before it.
        self._snapshots: list[tuple[int, Array]] = []
        self._kept: dict[int, Trajectory] = {}

    def forward(self) -> Iterator[Trajectory]:
        """Take all steps, and keep what the way back will need."""
        if len(self._kept) == len(self.segments):
            # Everything fits: the same steps serve as often as they are asked for.
            yield from (self._kept[i] for i in range(len(self.segments)))
            return
        self._snapshots, self._kept = [(0, self.start.states[0])], {}
        yield from self._taken(len(self.segments))

    def untaken(self) -> Iterator[Trajectory]:
        """The segments without their states."""
        yield from (self.start[steps] for steps in self.segments)

    def backward(self) -> Iterator[Trajectory]:
        """The segments from the last back. The first time right after `forward`, later from anew."""
        everything = self.schedule.ahead(len(self.segments), 0) == 0
        if not self._snapshots:
            self._snapshots = [(0, self.start.states[0])]
        end = len(self.segments)
        while self._snapshots:
            first, _ = self._snapshots[-1]
            if first not in self._kept:
                for _taken in self._taken(end):
                    pass
                first, _ = self._snapshots[-1]
            for i in range(end - 1, first - 1, -1):
                # What is handed out is let go at once: the room is needed for the segments before.
                yield self._kept[i] if everything else self._kept.pop(i)
            end = first
            if everything:
                return
            self._snapshots.pop()

    def _taken(self, end: int) -> Iterator[Trajectory]:
        """From the last snapshot to segment `end`, leaving more snapshots and the last steps whole."""
        first, state = self._snapshots[-1]
        while first < end:
            ahead = self.schedule.ahead(end - first, len(self._snapshots) - 1)
            for i in range(first, first + (ahead or end - first)):
                taken = take(self.start, self.segments[i], state, self.parallel)
                state = taken.states[-1]
                self.taken += len(taken.steps)
                if not ahead:  # no further snapshot: from here on all segments are kept whole
                    self._kept[i] = taken
                yield taken
            if not ahead:
                return
            first += ahead
            self._snapshots.append((first, state.copy()))  # a view would keep the whole segment


def _refuse_other(cell: Cell, taken: Any, state: Array, steps: range) -> None:
    """Refuse what an `unroll` gives in place of the steps."""
    expected = (len(steps) + 1, *state.shape)
    if not isinstance(taken, Trajectory):
        raise PluginError(f"{cell!r}: unroll() should return a Trajectory, not {type(taken).__name__}")
    if np.shape(taken.states) != expected or taken.states.dtype != state.dtype:
        raise PluginError(
            f"{cell!r}: unroll() returned states of shape {np.shape(taken.states)}, "
            f"{np.asarray(taken.states).dtype}, where (steps + 1, batch, m) = {expected}, {state.dtype} is "
            "needed"
        )


def _unrolling(cell: Cell) -> str:
    """What an author calls the way of a cell from step to step."""
    return "unroll" if cell.analytic("unroll") else "step"


def _refuse_non_finite(cell: Cell, states: Array, steps: range) -> None:
    if np.isfinite(states).all():
        return
    t, b, i = (int(index) for index in np.argwhere(~np.isfinite(states))[0])
    where = f"time {steps.start - 1 + t}, batch {b}, component {i}"
    raise NonFiniteError(
        f"{cell!r}: the state is {states[t, b, i]} for the first time at {where}; "
        "use smaller weights or inputs, fewer steps, or dtype='float64'"
    )
