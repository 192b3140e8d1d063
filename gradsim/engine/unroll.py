"""The forward pass."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim.cell import Cell
from gradsim.errors import NonFiniteError, PluginError
from gradsim.types import Array, Params, StepData


@dataclass(frozen=True)
class Trajectory:
    """All states (time 0..T, batch, m), inputs (step, batch, input) and step data of a run."""

    states: Array
    inputs: Array
    step_data: StepData

    def at(self, steps: range) -> tuple[Array, Array, dict[str, Array]]:
        """What `step` saw in a range of steps 1..T: old states, inputs, step data."""
        rows = slice(steps.start - 1, steps.stop - 1)
        return self.states[rows], self.inputs[rows], {n: x[rows] for n, x in self.step_data.items()}

    @property
    def steps(self) -> int:
        """The number T of steps."""
        return len(self.inputs)


def unroll(
    cell: Cell, params: Params, inputs: Array, initial_state: Array, step_data: StepData
) -> Trajectory:
    """Run the cell from `initial_state` (batch, m) over `inputs` (step, batch, input).

    Raises
    ------
    PluginError
        `step` changes its arguments or returns a wrong shape or dtype.
    NonFiniteError
        A state is NaN or infinite; names the first time and batch element.
    """
    states = np.empty((len(inputs) + 1, *initial_state.shape), dtype=inputs.dtype)
    states[0] = initial_state
    _probe(cell, params, states[0], inputs[0], {n: x[0] for n, x in step_data.items()})
    with np.errstate(all="ignore"):
        for t, x in enumerate(inputs):
            here = {name: data[t] for name, data in step_data.items()}
            states[t + 1] = cell.step(params, states[t], x, np, **here)
    _refuse_non_finite(cell, states)
    for array in (states, inputs, *step_data.values()):
        array.flags.writeable = False
    return Trajectory(states, inputs, step_data)


def _probe(cell: Cell, params: Params, state: Array, inputs: Array, data: StepData) -> None:
    """One step in front of the run, to see that the cell keeps its contract."""
    given = {"state": state, "inputs": inputs, **{f"params[{n!r}]": p for n, p in params.items()}}
    before = {name: value.copy() for name, value in given.items()}
    with np.errstate(all="ignore"):
        new = cell.step(params, state, inputs, np, **data)
    for name, value in given.items():
        if not np.array_equal(value, before[name], equal_nan=True):
            raise PluginError(f"{cell!r}: step() changes its argument {name}; compute a new array instead")
    if np.shape(new) != state.shape:
        raise PluginError(
            f"{cell!r}: step() returned shape {np.shape(new)} for a state of shape {state.shape}; "
            "join the blocks with xp.concatenate(..., axis=-1)"
        )
    if new.dtype != state.dtype:
        raise PluginError(
            f"{cell!r}: step() returned dtype {new.dtype} for {state.dtype}; "
            "constants should be Python numbers or have the dtype of the state"
        )


def _refuse_non_finite(cell: Cell, states: Array) -> None:
    bad = ~np.isfinite(states)
    if bad.any():
        t, b, i = (int(index) for index in np.argwhere(bad)[0])
        raise NonFiniteError(
            f"{cell!r}: the state is {states[t, b, i]} for the first time at time {t}, batch {b}, "
            f"component {i}; use smaller weights or inputs, fewer steps, or dtype='float64'"
        )
