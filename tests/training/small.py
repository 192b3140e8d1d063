"""Tasks, a cell and a schedule that take no time."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

import gradsim
from gradsim import Baseline, Cell, Episode, FiniteTask, Schedule, Task
from gradsim.types import PositiveInt


class Noted:
    """Keeps what was asked of a task, and what it gave for training."""

    @functools.cached_property
    def chosen(self):
        return []

    @functools.cached_property
    def given(self):
        return []

    def last(self, updates):
        """The batches of the last updates. The first batch is looked at before the first update, too."""
        return self.given[-updates:]

    def note(self, part, chosen, episode):
        if part == "train":
            self.chosen.append(np.array(chosen))
            self.given.append(episode)
        return episode


class Numbered(Noted, FiniteTask):
    """Sequences by number: those of one part after those of another."""

    @property
    def sequences(self):
        parts = {"train": self.train, "validation": self.validation, "test": self.test}
        return {part: count for part, count in parts.items() if count}

    def numbers_of(self, part, chosen):
        before = {"train": 0, "validation": self.train, "test": self.train + self.validation}
        return before[part] + np.asarray(chosen)


@dataclass(frozen=True, eq=False)
class Stream(Numbered):
    """Say the sum of the last two numbers of a stream, at every step; the loss is the squared error."""

    name = "stream"
    consecutive: ClassVar[bool] = True
    input_size = 1
    output_size = 1

    length: PositiveInt = 4
    train: PositiveInt = 7
    validation: PositiveInt = 3
    test: int = 0

    def take(self, part, chosen):
        rows = self.length * self.numbers_of(part, chosen) + np.arange(self.length)[:, None]
        targets = self.numbers[rows] + self.numbers[rows - 1]
        weights = np.full(rows.shape, 1 / self.length)
        return self.note(part, chosen, Episode(self.numbers[rows][..., None], targets[..., None], weights))

    @functools.cached_property
    def numbers(self):
        last = np.zeros(1)  # the number before the first
        count = (self.train + self.validation + self.test) * self.length
        return np.append(np.random.default_rng(5).standard_normal(count), last)

    def loss(self, outputs, targets, xp):
        return gradsim.squared_error(outputs, targets, xp)


@dataclass(frozen=True, eq=False)
class Labelled(Numbered):
    """Say at every step which of two inputs is greater, in sequences of 2 to 5 steps: cross entropy."""

    name = "labelled"
    metric = "accuracy"
    input_size = 2
    output_size = 2
    baseline = Baseline("guess", float(np.log(2)), 0.5)

    train: PositiveInt = 7
    validation: PositiveInt = 5
    test: int = 0

    def take(self, part, chosen):
        numbers = self.numbers_of(part, chosen)
        count = self.train + self.validation + self.test
        inputs = np.random.default_rng(6).standard_normal((5, count, 2))[:, numbers]
        weights = (np.arange(5)[:, None] < 2 + numbers % 4) / (2.0 + numbers % 4)
        classes = (inputs[..., 0] < inputs[..., 1]).astype(int)
        return self.note(part, chosen, Episode(inputs, classes, weights))

    def loss(self, outputs, targets, xp):
        return gradsim.cross_entropy(outputs, targets, xp)

    def score(self, outputs, targets):
        return gradsim.accuracy(outputs, targets)


@dataclass(frozen=True, eq=False)
class Recall(Noted, Task):
    """Say the first of some numbers, at the end. `broken_at`: the draw (1, 2, ...) that holds a NaN."""

    name = "recall"
    input_size = 2
    output_size = 2

    length: PositiveInt = 6
    broken_at: int = 0

    def sample(self, rng, batch):
        inputs = rng.standard_normal((self.length, batch, 2))
        if self.broken_at == len(self.given) + 1:
            inputs[2, 1, 0] = np.nan
        weights = np.zeros((self.length, batch))
        weights[-1] = 1
        episode = Episode(inputs, np.broadcast_to(inputs[0], inputs.shape), weights)
        return self.note("train", np.arange(batch), episode)

    def loss(self, outputs, targets, xp):
        return gradsim.squared_error(outputs, targets, xp)


@dataclass(frozen=True, eq=False)
class Given(Task):
    """One episode of a task, whenever it is asked for one."""

    name = "given"

    task: Task
    episode: Episode

    @property
    def input_size(self):
        return self.task.input_size

    @property
    def output_size(self):
        return self.task.output_size

    def sample(self, rng, batch):
        return self.episode

    def loss(self, outputs, targets, xp):
        return self.task.loss(outputs, targets, xp)


@dataclass(frozen=True, eq=False)
class Noisy(Cell):
    """h_t = tanh(U h_{t-1} + W x_t) + 0.1 n_t, with noise n_t that is drawn; all derivatives for free."""

    name = "noisy"
    recurrent_weights = ("U",)

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 3

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    def init_params(self, rng):
        n = self.hidden_size
        return {"U": rng.standard_normal((n, n)) / n, "W": rng.standard_normal((n, self.input_size))}

    def draw(self, rng, steps, batch, moment):
        return {"noise": rng.standard_normal((steps, batch, self.hidden_size))}

    def step(self, params, state, inputs, xp, *, noise):
        return xp.tanh(state @ params["U"].T + inputs @ params["W"].T) + 0.1 * noise


@dataclass(frozen=True, eq=False)
class Half(Schedule):
    name = "half"

    def factor(self, update, updates):
        return 0.5
