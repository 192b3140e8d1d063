"""The copying memory problem."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar

import numpy as np
from annotated_types import Ge

from gradsim import Baseline, Episode, accuracy
from gradsim.types import PositiveInt
from gradsim_tasks.answers import Classes


@dataclass(frozen=True, eq=False)
class CopyMemory(Classes):
    """Say the `count` symbols of the start again after a `delay`, in their order.

    Each symbol is one of `alphabet`, all as likely. A sequence has delay + 2 count steps:

    - inputs: the symbols, delay - 1 blanks, a marker, count blanks; one-hot: the alphabet, blank, marker;
    - answers: delay + count blanks, the symbols; classes: the alphabet, blank.

    The loss is the mean of the cross entropy over all steps. What forgets the symbols says blank up to the
    marker and guesses behind it, a loss of count ln(alphabet) / (delay + 2 count): with ten symbols of
    eight, 10 ln 8 / (delay + 20).

    The score counts the recalled symbols alone: each weighs (delay + 2 count) / count and blanks nothing,
    so that the mean over all steps is the share of the symbols that are right.

    Arjovsky, Shah & Bengio (2016), Unitary evolution recurrent neural networks, and its public code; after
    Hochreiter & Schmidhuber (1997), Long short-term memory.
    """

    name = "copy_memory"
    metric = "accuracy of recall"

    delay: PositiveInt = 100
    count: PositiveInt = 10
    alphabet: Annotated[int, Ge(2)] = 8

    marker_ahead: ClassVar[int] = 1
    """How many steps before the first answer the marker stands."""

    @property
    def input_size(self):
        return self.alphabet + 2

    @property
    def output_size(self):
        return self.alphabet + 1

    @property
    def length(self):
        """The steps of a sequence."""
        return self.delay + 2 * self.count

    @property
    def baseline(self):
        loss = self.count * math.log(self.alphabet) / self.length
        return Baseline("guessing when asked", loss, 1 / self.alphabet)

    def sample(self, rng, batch):
        symbols = rng.integers(0, self.alphabet, (self.count, batch))
        shown = np.full((self.length, batch), self.alphabet)
        answers = shown.copy()
        shown[: self.count] = answers[-self.count :] = symbols
        shown[-self.count - self.marker_ahead] = self.alphabet + 1
        return Episode(np.eye(self.input_size)[shown], answers, np.full(shown.shape, 1 / self.length))

    def score(self, outputs, targets):
        asked = targets < self.alphabet
        return asked * accuracy(outputs, targets) * (self.length / self.count)
