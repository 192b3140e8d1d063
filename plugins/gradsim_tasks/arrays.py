"""Sequences that are all in memory: what these tasks share."""

from __future__ import annotations

import functools
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from gradsim import Episode
from gradsim.contracts.task import Baseline, FiniteTask
from gradsim_tasks.answers import Classes


@dataclass(frozen=True, eq=False)
class Arrays(FiniteTask):
    """A task that has every part as one episode of all its sequences."""

    @property
    @abstractmethod
    def whole(self):
        """All sequences of each part: part -> Episode."""

    @property
    def sequences(self):
        return {part: episode.inputs.shape[1] for part, episode in self.whole.items()}

    def take(self, part, chosen):
        whole = self.whole[part]
        return Episode(*(x[:, chosen] for x in (whole.inputs, whole.targets, whole.weights)))

    @property
    def measured(self):
        """What a baseline is for: the validation part, or that for training where there is none."""
        return self.whole.get("validation", self.whole["train"])


@dataclass(frozen=True, eq=False)
class Classified(Classes, Arrays):
    """Such a task whose answers are classes."""

    @functools.cached_property
    def baseline(self):
        return most_frequent(self.whole["train"], self.measured, self.output_size)


def most_frequent(known, measured, classes):
    """What the frequencies of the classes in the episode `known` get in the episode `measured`."""
    counts = np.bincount(known.targets[known.weights != 0], minlength=classes)
    return frequencies("most frequent class", counts, measured.targets, measured.weights)


def frequencies(name, counts, targets, weights):
    """What frequencies alone get: the same probabilities at every step, and the most frequent class.

    A class that was counted n times among N has the probability (n + 1) / (N + classes), so that none is
    impossible. `targets` and `weights`, (time, sequence), are those of the part that is measured.
    """
    surprise = -np.log((counts + 1) / (counts + 1).sum())
    score = np.average(targets == counts.argmax(), weights=weights)
    return Baseline(name, float(np.sum(weights * surprise[targets]) / targets.shape[1]), float(score))
