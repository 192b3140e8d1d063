"""What decides the numbers of a run, before anything is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Draws, Mitigation
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import call_with
from gradsim.contracts.task import Episode, Task
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import PluginError
from gradsim.run.arguments import Streams, as_dtype, known_step_data, wanted_step_data
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
    moment: Moment
    streams: Streams

    @cached_property
    def all_params(self) -> Params:
        """Those of the cell and of the readout."""
        return {**self.params, **self.readout}

    @cached_property
    def start(self) -> Trajectory:
        """The steps of the run, none of which has been taken."""
        return Trajectory(self.cell, self.params, self.initial_state[None], self.inputs, self.step_data)


@dataclass(frozen=True)
class Model:
    """What runs, as its mitigations have prepared it: the same for every batch."""

    cell: Cell
    task: Task | None
    mitigations: Sequence[Mitigation]
    hooks: RunHooks
    dtype: np.dtype

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
        moment: Moment,
    ) -> Setup:
        """A run over checked inputs (time, batch, input) from a state (batch, m)."""
        steps, batch = inputs.shape[:2]
        offered: dict[str, Any] = {"steps": steps, "batch": batch, "inputs": inputs, "moment": moment}
        shapes = {n: p.shape for n, p in {**params, **readout}.items()}
        draws = {m: self._drawn(m, i, streams, offered, shapes) for i, m in enumerate(self.mitigations)}
        data: StepData = {}
        if self._asks:
            known = known_step_data(self.cell, episode, streams.generator("cell"), offered)
            if self.hooks.uses("gradsim_step_data"):
                known = self.hooks(
                    "gradsim_step_data",
                    cell=self.cell,
                    step_data=known,
                    inputs=inputs,
                    episode=episode,
                    draws=draws,
                    moment=moment,
                )
                if not isinstance(known, Mapping):
                    raise PluginError(
                        f"gradsim_step_data should return a dict of arrays, not {type(known).__name__}"
                    )
            data = wanted_step_data(self.cell, known, (steps, batch), self.dtype)
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
            moment,
            streams,
        )

    def _drawn(
        self,
        mitigation: Mitigation,
        i: int,
        streams: Streams,
        offered: Mapping[str, Any],
        shapes: Mapping[str, tuple[int, ...]],
    ) -> StepData:
        rng = streams.generator("mitigation", i)
        return as_dtype(call_with(mitigation.draw, rng=rng, shapes=shapes, **offered), self.dtype)
