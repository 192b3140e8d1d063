"""The adding problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from gradsim import Baseline, Task, squared_error
from gradsim_tasks.answers import at_the_end

CLOSE = 0.04


@dataclass(frozen=True, eq=False)
class Adding(Task):
    """Report the sum of the two marked values X_1, X_2 of a long sequence, at its end.

    Each step gives a value and a marker. There are two forms:

    - "hochreiter_1997": values uniform in [-1, 1]. One of the first ten steps is marked, then another
      one of the first half. Marked steps have marker 1, the first and the last step -1 unless marked,
      all others 0. The target is 0.5 + (X_1 + X_2) / 4, where the value of the first step counts as 0.
      The length of every sequence is `length`; the original draws it from length to 1.1 length.
      Hochreiter & Schmidhuber (1997), Long short-term memory, experiment 4.
    - "sum": values uniform in [0, 1]. One step of each half is marked by 1, all others have 0. The target
      is X_1 + X_2. Le, Jaitly & Hinton (2015), A simple way to initialize recurrent networks of rectified
      linear units, section 4.1; Arjovsky, Shah & Bengio (2016), Unitary evolution recurrent neural
      networks.

    An answer is solved when it is off by less than 0.04, as in the original. The baseline always says
    the mean: a loss of (1.9 - 0.9 / (length // 2 - 1)) / 48, near 1/24, for the one form and 1/6 for the
    other.
    """

    name = "adding"
    metric = "solved within 0.04"
    input_size = 2
    output_size = 1

    length: Annotated[int, Ge(20)] = 100
    form: Literal["hochreiter_1997", "sum"] = "hochreiter_1997"

    @property
    def baseline(self):
        if self.form == "sum":
            return Baseline("mean", 1 / 6, _near_mean_of_two(CLOSE))
        one_counts = 1 / 10 + (9 / 10) / (self.length // 2 - 1)
        near = 4 * CLOSE  # of X_1 + X_2; where only one counts, its distance from 0 is uniform in [0, 1]
        score = one_counts * near + (1 - one_counts) * _near_mean_of_two(near / 2)
        return Baseline("mean", (2 - one_counts) / 48, score)

    def sample(self, rng, batch):
        draw = self._sum if self.form == "sum" else self._hochreiter
        values, markers, answers = draw(rng, batch)
        return at_the_end(np.stack((values, markers), axis=-1), answers[:, None])

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)

    def score(self, outputs, targets):
        return (np.abs(outputs - targets)[..., 0] < CLOSE).astype(np.float64)

    def _hochreiter(self, rng, batch):
        values = rng.uniform(-1, 1, (self.length, batch))
        first = rng.integers(0, 10, batch)
        # Uniform over the first half without the step that is marked already.
        second = rng.integers(0, self.length // 2 - 1, batch)
        marked = np.stack((first, second + (second >= first)))
        markers = np.zeros((self.length, batch))
        markers[0] = markers[-1] = -1
        markers[marked, np.arange(batch)] = 1
        counted = np.where(marked == 0, 0, values[marked, np.arange(batch)])
        return values, markers, 0.5 + counted.sum(axis=0) / 4

    def _sum(self, rng, batch):
        values = rng.uniform(0, 1, (self.length, batch))
        half = self.length // 2
        marked = np.stack((rng.integers(0, half, batch), rng.integers(half, self.length, batch)))
        markers = np.zeros((self.length, batch))
        markers[marked, np.arange(batch)] = 1
        return values, markers, values[marked, np.arange(batch)].sum(axis=0)


def _near_mean_of_two(distance):
    """How often the sum of two values, each uniform over a width of 1, is that near its mean."""
    return 2 * distance - distance**2
