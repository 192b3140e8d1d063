"""A task set up to be examined."""

from __future__ import annotations

import functools
from typing import Literal

import numpy as np

from gradsim.contracts.episodes import episode_mistakes, non_finite
from gradsim.contracts.task import Episode, FiniteTask, Task
from gradsim.testing.kit import Bench, copied
from gradsim.testing.specimen import BATCH
from gradsim.types import Array

SOME = 4
"""Outputs, where a task takes any number."""

Measure = Literal["loss", "score"]


class TaskBench(Bench):
    """A task with one episode and random outputs."""

    family = "tasks"

    def __init__(self, task: Task) -> None:
        super().__init__(task)
        self.task = task

    @functools.cached_property
    def batch(self) -> int:
        """A few sequences, as many as there are."""
        return min(BATCH, self.task.available("train", 1)) if isinstance(self.task, FiniteTask) else BATCH

    @functools.cached_property
    def _episode(self) -> Episode:
        return self.task.sample(self.rng("episode"), self.batch)

    @property
    def episode(self) -> Episode:
        """The same every time, in arrays of its own."""
        return copied(self._episode)  # type: ignore[no-any-return]

    @property
    def outputs(self) -> Array:
        """What a readout or a cell might say, (time, batch, output)."""
        return self.rng("outputs").standard_normal((*self.episode.inputs.shape[:2], self.output_size))

    @property
    def output_size(self) -> int:
        """The number of outputs; some, if the task takes any number."""
        return self.task.output_size or SOME

    def loss(self, outputs: Array) -> Array:
        """The loss of the task for the targets of the episode."""
        return self.measure("loss", outputs, self.episode.targets)

    def measure(self, what: Measure, outputs: Array, targets: Array) -> Array:
        """The loss or the score of the task."""
        if what == "loss":
            return np.asarray(self.task.loss(outputs, targets, np))
        return np.asarray(self.task.score(outputs, targets))

    def well_formed(self, episode: Episode, batch: int) -> None:
        """Fail unless the arrays of an episode fit together and are finite."""
        self.refuse(episode_mistakes(self.task, episode, batch))
        self.refuse(non_finite(episode))
        self.expect(np.any(episode.weights), "all weights are zero: there is no loss")
