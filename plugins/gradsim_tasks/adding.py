"""The adding problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from gradsim import Episode, Task, squared_error


@dataclass(frozen=True, eq=False)
class Adding(Task):
    """Report the scaled sum of the two marked values of a long sequence, at its end.

    Each step gives a value, uniform in [-1, 1], and a marker. The first marker, 1, is at one of the
    first ten steps; the second, 1, at another one of the first half. The markers of the first
    and the last step are -1 (1 where the first step is the first marked one), all others 0. The
    target, at the last step, is 0.5 + (X_1 + X_2) / 4, where X_1 is 0 if the first step is marked.

    The length of every sequence is `length`; the original draws it from length to 1.1 length.
    Always answering 0.5 gives a mean squared error of about 1/24 (exactly so when both values count).

    Hochreiter & Schmidhuber (1997), Long short-term memory, experiment 4.
    """

    name = "adding"

    length: Annotated[int, Ge(20)] = 100

    @property
    def input_size(self):
        return 2

    @property
    def output_size(self):
        return 1

    def sample(self, rng, batch):
        values = rng.uniform(-1, 1, (self.length, batch))
        first = rng.integers(0, 10, batch)
        # Uniform over the first half without the step that is marked already.
        second = rng.integers(0, self.length // 2 - 1, batch)
        second = second + (second >= first)
        each = np.arange(batch)
        markers = np.zeros((self.length, batch))
        markers[0] = markers[-1] = -1
        markers[first, each] = markers[second, each] = 1
        x1 = np.where(first == 0, 0, values[first, each])
        x2 = values[second, each]
        targets = np.zeros((self.length, batch, 1))
        targets[-1, :, 0] = 0.5 + (x1 + x2) / 4
        weights = np.zeros((self.length, batch))
        weights[-1] = 1
        return Episode(np.stack((values, markers), axis=-1), targets, weights)

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)
