"""The temporal order problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from gradsim import Episode, Task, cross_entropy


@dataclass(frozen=True, eq=False)
class TemporalOrder(Task):
    """Say in which order two symbols, X or Y each, stood in a long sequence of distractors.

    Eight symbols, one-hot in the order a, b, c, d, X, Y, B, E. A sequence starts with E and ends with
    B; the steps between hold a, b, c, d at random, except two steps t1 and t2 which hold X or Y. t1 is
    uniform in [0.1, 0.2] of the length and t2 in [0.5, 0.6], both ends included. The class,
    asked at the last step, is 0 for XX, 1 for XY, 2 for YX, 3 for YY.

    The original draws the length from 100 to 110, with t1 in 10..20 and t2 in 50..60. Guessing
    gives a loss of ln 4 = 1.386 nats.

    Hochreiter & Schmidhuber (1997), Long short-term memory, experiment 6a, there with targets of
    +-1 and squared error; with softmax as Pascanu, Mikolov & Bengio (2013).
    """

    name = "temporal_order"

    length: Annotated[int, Ge(10)] = 100

    @property
    def input_size(self):
        return 8

    @property
    def output_size(self):
        return 4

    def sample(self, rng, batch):
        symbols = rng.integers(0, 4, (self.length, batch))
        symbols[0], symbols[-1] = 7, 6
        each = np.arange(batch)
        order = rng.integers(0, 2, (2, batch))
        for which, (low, high) in enumerate(((0.1, 0.2), (0.5, 0.6))):
            at = rng.integers(round(low * self.length), round(high * self.length) + 1, batch)
            symbols[at, each] = 4 + order[which]
        targets = np.zeros((self.length, batch), dtype=np.int64)
        targets[-1] = 2 * order[0] + order[1]
        weights = np.zeros((self.length, batch))
        weights[-1] = 1
        return Episode(np.eye(8)[symbols], targets, weights)

    def loss(self, outputs, targets, xp):
        return cross_entropy(outputs, targets, xp)
