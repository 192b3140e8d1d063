"""What decides the numbers of a run, before anything is computed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.mitigation import Draws
from gradsim.contracts.moment import Moment
from gradsim.contracts.plugin import drawn, refuse_other_draws
from gradsim.contracts.task import Episode, Task
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import PluginError
from gradsim.numerics.locked import all_locked, locked
from gradsim.run.arguments import as_dtype, known_step_data, wanted_step_data
from gradsim.run.budget import FEW
from gradsim.run.refusals import Refusals
from gradsim.run.seeds import Seeds
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
    seeds: Seeds

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
    """What runs, as its mitigations have prepared it: the same for every batch. `given`: the cell before."""

    given: Cell
    cell: Cell
    task: Task | None
    hooks: RunHooks
    dtype: np.dtype

    def setup(
        self,
        seeds: Seeds,
        params: Params,
        readout: Params,
        inputs: Array,
        episode: Episode | None,
        state: Array,
        moment: Moment,
        replicate: int = 0,
    ) -> Setup:
        """A run over checked inputs (time, batch, input) from a state (batch, m).

        Replicates differ in what mitigations draw, and in nothing else.

        Raises
        ------
        PluginError
            In a pass that validates something is random, or changes the step data, that has not asked for
            the moment.
        """
        inputs = locked(inputs)
        shapes = {n: p.shape for n, p in {**params, **readout}.items()}
        draws, refusals, other = {}, Refusals(), (replicate,) if replicate else ()
        if _is_first(moment):
            refusals.ask(self.hooks, self.cell, shapes, self.task)
            refusals.tell()
        for i, mitigation in enumerate(self.hooks.mitigations):
            if moment.validating and not hasattr(mitigation, "gradsim_step_data"):
                continue  # nothing else of it is asked
            rng, offered = seeds.generator("mitigation", i, *other), {"cell": self.cell, "shapes": shapes}
            with refusals.of(mitigation):
                found = drawn(mitigation.draw, rng, inputs, moment, **offered)
                if found and _is_first(moment):
                    refuse_other_draws(mitigation.draw, inputs[:, :FEW], moment, **offered)
                draws[mitigation] = all_locked(as_dtype(found, self.dtype))
        refusals.tell()
        data: StepData = {}
        if self.cell.step_data:
            known = known_step_data(self.cell, episode, seeds.generator("cell", *other), inputs, moment)
            if replicate:  # of what the cell draws, that which mitigations have not added is the same
                known |= drawn(self.given.draw, seeds.generator("cell"), inputs, moment)
            if _is_first(moment):
                refuse_other_draws(self.cell.draw, inputs[:, :FEW], moment)
            if self.hooks.uses("gradsim_step_data"):
                if moment.validating and (unasked := self.hooks.unasked("gradsim_step_data", "moment")):
                    raise PluginError(
                        f"{unasked!r}: gradsim_step_data changes the step data of a validation too, where "
                        "forcing and dropout are off; let it name `moment` and say what holds where "
                        "moment.validating"
                    )
                known = self.hooks(
                    "gradsim_step_data",
                    cell=self.cell,
                    step_data=all_locked(known),
                    inputs=inputs,
                    episode=episode,
                    draws=draws,
                    moment=moment,
                )
            data = wanted_step_data(self.cell, known, inputs.shape[:2], self.dtype)
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
            seeds,
        )


def _is_first(moment: Moment) -> bool:
    """Whether this is a simulation, or the first pass of a training that may draw."""
    return moment.update <= 1 and not moment.validating
