"""A cell set up to be examined."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.moment import Moment
from gradsim.contracts.problem import Pairs
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.task import Task
from gradsim.engine import derivatives
from gradsim.engine.probe import Place
from gradsim.run.prepared import Simulation
from gradsim.simulation import prepare
from gradsim.testing.kit import Bench
from gradsim.testing.specimen import BATCH, STEPS, generic, stage, step_data
from gradsim.types import Array, Params

_MOVE, _ANY = 0.5, Moment()


class CellBench(Bench):
    """A cell with parameters, inputs, step data and states, all generic and always the same."""

    family = "cells"

    def __init__(self, cell: Cell, task: Task | None = None) -> None:
        super().__init__(cell)
        self.cell, self.task = cell, task

    @functools.cached_property
    def params(self) -> Params:
        """Near those that the cell draws."""
        return generic(self.cell.init_params(self.rng("params")), self.rng("params near"))

    def draw(self, batch: int = BATCH, moment: Moment = _ANY) -> dict[str, Array]:
        """Step data."""
        return step_data(self.cell, self.rng("data"), STEPS, batch, self.task, moment)

    @functools.cached_property
    def run(self) -> Place:
        """Old states, inputs and step data of a short run from a random state: axes (step, batch)."""
        inputs = self.rng("inputs").standard_normal((STEPS, BATCH, self.cell.input_size))
        data = self.draw()
        start = np.broadcast_to(self.cell.initial_state(), (BATCH, self.cell.state_size))
        states = [start + _MOVE * self.rng("start").standard_normal(start.shape)]
        for t in range(STEPS - 1):
            here = Place(self.params, states[t], inputs[t], {n: x[t] for n, x in data.items()})
            states.append(np.asarray(self.step(here)))
        return Place(self.params, np.stack(states), inputs, data)

    @functools.cached_property
    def points(self) -> Place:
        """All places of the run, and as many nearby, along one leading axis."""
        run = self.run

        def twice(x: Array) -> Array:
            flat = x.reshape(STEPS * BATCH, *x.shape[2:])
            return np.concatenate((flat, flat))

        moved = self.rng("points").standard_normal((2, STEPS * BATCH, self.cell.state_size))
        moved *= np.array([0.0, _MOVE])[:, None, None]
        return Place(
            self.params,
            twice(run.state) + moved.reshape(-1, self.cell.state_size),
            twice(run.inputs),
            {n: twice(x) for n, x in run.data.items()},
        )

    def step(self, place: Place) -> Any:
        """One step of the cell, on copies of its arguments."""
        return place.copy(str(place.state.dtype)).call(self.cell.step, np)

    def simulation(self, *record: Recorder, rng: int = 0, pairs: Pairs | None = None) -> Simulation:
        """A run of the engine with the parameters, inputs and first states of the bench."""
        derivatives.trusted().add(self.cell)  # which other checks look at
        r = self.run.copy()
        left = {n: x for n, x in r.data.items() if n != "step_index"}
        return prepare(
            self.cell,
            task=stage(r.inputs, left, self.rng("stage")),
            batch=BATCH,
            params=r.params,
            initial_state=r.state[0],
            record=record,
            pairs=pairs,
            rng=rng,
        )
