"""Loss and score on sequences that are not trained on."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from gradsim.contracts.problem import Problem
from gradsim.contracts.task import Episode, FiniteTask, Task
from gradsim.contracts.trajectory import Parallel
from gradsim.engine.forward import Start
from gradsim.engine.loss import Loss
from gradsim.engine.segments import granules
from gradsim.run.arguments import Streams, fitting_inputs
from gradsim.run.setup import Dynamics
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
        dynamics: Dynamics,
        task: Task,
        streams: Streams,
        parallel: Parallel,
        *,
        part: str,
        batch: int,
        sequences: int | None,
        stateful: bool,
    ) -> None:
        self.dynamics, self.task, self.part = dynamics, task, part
        self.streams, self.parallel, self.stateful = streams.within("validation"), parallel, stateful
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
            return self.task.take(self.part, chosen)
        return self.task.sample(self.streams.generator("task", i), len(chosen))

    def __call__(self, params: Params, readout: Params) -> tuple[float, float]:
        """(loss, score); the score is NaN for a task without a metric.

        Raises
        ------
        NonFiniteError
            A state or a loss is NaN or infinite; names the first place.
        """
        loss = good = weight = 0.0
        state = None
        for i, chosen in enumerate(self.batches):
            episode = self._episode(i)
            part = Loss(self.dynamics.cell, self.task, episode, readout, len(episode.inputs))
            for steps, states in self._states(i, episode, params, state):
                part.terms(steps, states)
                if self.task.metric is not None:
                    rows = slice(steps.start - 1, steps.stop - 1)
                    score = self.task.score(part.outputs(states), episode.targets[rows])
                    good += float((score * episode.weights[rows]).sum())
                state = states[-1] if self.stateful else None
            loss += part.total * len(chosen)
            weight += float(episode.weights.sum())
        mean = good / weight if self.task.metric is not None else np.nan
        return loss / sum(map(len, self.batches)), mean

    def _states(
        self, i: int, episode: Episode, params: Params, state: Array | None
    ) -> Iterator[tuple[range, Array]]:
        """The states (step, batch, m) after some steps at a time."""
        d = self.dynamics
        x = fitting_inputs(d.cell, self.task, episode.inputs, episode, d.dtype)
        shape = x.shape[1], d.cell.state_size
        first = np.broadcast_to(d.cell.initial_state() if state is None else state, shape)
        setup = d.setup(self.streams.within("update", i), params, {}, x, episode, first.astype(d.dtype))
        start = Start(d.cell, params, setup.initial_state, x, setup.step_data)
        problem = Problem(d.cell, len(x), len(first), d.dtype, {n: p.shape for n, p in params.items()})
        state = start.state
        for steps in granules(problem):
            taken = start.take(steps, state, self.parallel)
            state = taken.states[-1]
            yield steps, taken.states[1:]
