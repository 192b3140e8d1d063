"""The temporal order problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from gradsim_tasks.answers import Classes, at_the_end, guessing

WHERE = {2: ((0.1, 0.2), (0.5, 0.6)), 3: ((0.1, 0.2), (0.33, 0.43), (0.66, 0.76))}


@dataclass(frozen=True, eq=False)
class TemporalOrder(Classes):
    """Say in which order two or three symbols, X or Y each, stood in a long sequence of distractors.

    Eight symbols, one-hot in the order a, b, c, d, X, Y, B, E. A sequence starts with E and ends with
    B; the steps between hold a, b, c, d at random, except the steps t1, t2 (and t3 with three `symbols`),
    which hold X or Y. The class, asked at the last step, reads them as binary digits, X = 0 and Y = 1, the
    first one the most significant: of two symbols, 0 is XX, 1 is XY, 2 is YX, 3 is YY.

    t1, t2 (and t3) are uniform in these shares of the length, rounded, both ends included:

    - two symbols, experiment 6a: [0.1, 0.2] and [0.5, 0.6];
    - three symbols, experiment 6b: [0.1, 0.2], [0.33, 0.43] and [0.66, 0.76].

    The original draws the length from 100 to 110, with t1 in 10..20, t2 in 50..60, and t1 in 10..20, t2 in
    33..43, t3 in 66..76. Guessing gives a loss of ln 4 = 1.386 or ln 8 = 2.079 nats.

    Hochreiter & Schmidhuber (1997), Long short-term memory, experiment 6, there with targets of +-1 and
    squared error; with softmax as Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent
    neural networks, who leave out B and E.
    """

    name = "temporal_order"
    input_size = 8

    length: Annotated[int, Ge(10)] = 100
    symbols: Literal[2, 3] = 2

    @property
    def output_size(self):
        return 2**self.symbols

    @property
    def baseline(self):
        return guessing(self.output_size)

    def sample(self, rng, batch):
        sequence = rng.integers(0, 4, (self.length, batch))
        sequence[0], sequence[-1] = 7, 6
        order = rng.integers(0, 2, (self.symbols, batch))
        for told, (low, high) in zip(order, WHERE[self.symbols], strict=True):
            at = rng.integers(round(low * self.length), round(high * self.length) + 1, batch)
            sequence[at, np.arange(batch)] = 4 + told
        digits = 2 ** np.arange(self.symbols)[::-1]
        return at_the_end(np.eye(8)[sequence], digits @ order)
