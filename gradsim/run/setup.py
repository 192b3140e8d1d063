"""What decides the numbers of a run, before anything is computed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Draws, Mitigation
from gradsim.contracts.task import Episode, Task
from gradsim.run.arguments import Streams, as_dtype, checked_step_data
from gradsim.types import Array, Params, StepData


@dataclass(frozen=True)
class Setup:
    """Everything that decides the numbers of a run; nothing has been computed yet."""

    cell: Cell
    params: Params
    readout: Params
    inputs: Array
    initial_state: Array
    step_data: StepData
    task: Task | None
    episode: Episode | None
    hooks: RunHooks
    draws: Draws
    measured: Sequence[str]
    streams: Streams


@dataclass(frozen=True)
class Dynamics:
    """What runs, as its mitigations have prepared it: the same for every batch."""

    cell: Cell
    task: Task | None
    mitigations: Sequence[Mitigation]
    hooks: RunHooks
    dtype: np.dtype

    @cached_property
    def measured(self) -> list[str]:
        """The recorders whose results the mitigations read."""
        return [name for m in self.mitigations for name in m.requires]

    @cached_property
    def _asks(self) -> bool:
        """Whether the cell asks for step data."""
        return bool(self.cell.step_data)

    def setup(
        self,
        streams: Streams,
        params: Params,
        readout: Params,
        inputs: Array,
        episode: Episode | None,
        state: Array,
    ) -> Setup:
        """A run over checked inputs (time, batch, input) from a state (batch, m)."""
        steps, batch = inputs.shape[:2]
        data: StepData = {}
        if self._asks:
            data = checked_step_data(self.cell, episode, streams.generator("cell"), steps, batch, self.dtype)
        draws = {
            m: as_dtype(m.draw(streams.generator("mitigation", i), steps, batch), self.dtype)
            for i, m in enumerate(self.mitigations)
        }
        return Setup(
            self.cell,
            params,
            readout,
            inputs,
            state,
            data,
            self.task,
            episode,
            self.hooks,
            draws,
            self.measured,
            streams,
        )
