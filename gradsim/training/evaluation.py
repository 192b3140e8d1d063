"""Loss and score on sequences that are not trained on."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from gradsim.contracts.episodes import sampled, scores, taken
from gradsim.contracts.moment import Moment
from gradsim.contracts.problem import Problem
from gradsim.contracts.promises import initial_state
from gradsim.contracts.task import Episode, FiniteTask, Task
from gradsim.contracts.trajectory import Parallel, Trajectory, step_rows
from gradsim.engine.forward import take
from gradsim.engine.loss import Loss
from gradsim.engine.segments import segments
from gradsim.errors import PluginError
from gradsim.run.arguments import fitting_inputs
from gradsim.run.seeds import Seeds
from gradsim.run.setup import Model
from gradsim.types import Array, Params

_DRAWN = 1000
"""Sequences that are drawn of a task without end."""


class Evaluation:
    """The loss, and the score if the task has a metric, on the same sequences every time.

    They are taken in batches, the last one of which may be smaller. `stateful`: the part is read as
    `batch` streams side by side, or fewer if there are fewer sequences, with the state carried on.
    """

    def __init__(
        self,
        model: Model,
        task: Task,
        seeds: Seeds,
        parallel: Parallel,
        *,
        part: str,
        batch: int,
        sequences: int | None,
        stateful: bool,
    ) -> None:
        self.model, self.task, self.part = model, task, part
        self.seeds, self.parallel, self.stateful = seeds.within("validation"), parallel, stateful
        self.batches = self._cut(batch, sequences)

    def _cut(self, batch: int, sequences: int | None) -> list[Array]:
        """The numbers of the sequences of each batch."""
        if not isinstance(self.task, FiniteTask):
            count = sequences or _DRAWN
        else:
            count = self.task.sequences[self.part]
            if sequences is not None:
                count = min(count, sequences)
        if not self.stateful:
            return np.split(np.arange(count), np.arange(batch, count, batch))
        streams = min(batch, count)
        return list(np.arange(count // streams * streams).reshape(streams, -1).T)

    def _episode(self, i: int) -> Episode:
        chosen = self.batches[i]
        if isinstance(self.task, FiniteTask):
            return taken(self.task, self.part, chosen)
        return sampled(self.task, self.seeds.generator("task", i), len(chosen))

    def __call__(self, params: Params, readout: Params, moment: Moment) -> tuple[float, float]:
        """(loss, score); the score is NaN for a task without a metric.

        Raises
        ------
        NonFiniteError
            A state or a loss is NaN or infinite; names the first place.
        PluginError
            The states depend on the targets: the answers leak into the validation.
        """
        loss = good = weight = 0.0
        state = None
        for i, chosen in enumerate(self.batches):
            episode = self._episode(i)
            start = self._start(i, episode, params, readout, state, moment)
            part = Loss(self.model.cell, params, readout, start.inputs, self.task, episode)
            unaware = self._unaware(i, episode, params, readout, state, moment)
            for steps, states in self._states(start):
                self._refuse_leaks(states, next(unaware, states))
                part.terms(steps, states)
                if self.task.metric is not None:
                    rows = step_rows(steps)
                    score = scores(self.task, part.outputs(steps, states), episode.targets[rows])
                    good += float((score * episode.weights[rows]).sum())
                state = states[-1] if self.stateful else None
            loss += part.total * len(chosen)
            weight += float(episode.weights.sum())
        mean = good / weight if self.task.metric is not None else np.nan
        return loss / sum(map(len, self.batches)), mean

    def _unaware(self, i: int, episode: Episode, *rest: Any) -> Iterator[Array]:
        """The states if the answers were others; nothing where no answers can be seen."""
        cell, hooks = self.model.cell, self.model.hooks
        if "targets" in cell.step_data or (cell.step_data and hooks.uses("gradsim_step_data")):
            for _, states in self._states(self._start(i, episode.otherwise, *rest)):
                yield states

    def _refuse_leaks(self, states: Array, unaware: Array) -> None:
        if not np.array_equal(states, unaware):
            changing = self.model.hooks.phases.get("step_data", ())
            raise PluginError(
                f"{self.model.cell!r}{''.join(f' with {name}' for name in changing)}: the states depend on "
                "the targets in a validation too, so that the answers leak into it; switch this off where "
                "moment.validating, by an array that draw() makes (or gradsim_step_data, in a mitigation). "
                "What a network may know in every pass the task gives as inputs or step data"
            )

    def _start(
        self,
        i: int,
        episode: Episode,
        params: Params,
        readout: Params,
        state: Array | None,
        moment: Moment,
    ) -> Trajectory:
        model = self.model
        x = fitting_inputs(model.cell, episode.inputs, model.dtype)
        shape = x.shape[1], model.cell.state_size
        first = np.broadcast_to(initial_state(model.cell) if state is None else state, shape)
        seeds = self.seeds.within("update", i)
        return model.setup(seeds, params, readout, x, episode, first.astype(model.dtype), moment).start

    def _states(self, start: Trajectory) -> Iterator[tuple[range, Array]]:
        """The states (step, batch, m) after some steps at a time."""
        shapes = {n: p.shape for n, p in start.params.items()}
        length, batch = start.inputs.shape[:2]
        problem = Problem(start.cell, length, batch, self.model.dtype, shapes)
        state = start.states[0]
        for steps in segments(problem):
            taken = take(start, steps, state, self.parallel)
            state = taken.states[-1]
            yield steps, taken.after
