"""The random permutation problem."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from gradsim_tasks.answers import Classes, at_the_end, guessing


@dataclass(frozen=True, eq=False)
class RandomPermutation(Classes):
    """Say at the end which of two symbols a long random sequence began with.

    `symbols` symbols, one-hot. The first step has symbol 0 or 1, both as likely; every other step has one of
    2, 3, ..., drawn afresh. The answer, asked at the last step, is the first symbol; it is one class among
    all `symbols`. Knowing that it is 0 or 1 but not which gives a loss of ln 2 = 0.693 nats, knowing
    nothing ln(symbols).

    Martens & Sutskever (2011), Learning recurrent neural networks with Hessian-free optimization, after
    experiment 2b of Hochreiter & Schmidhuber (1997), Long short-term memory; as in the public code of
    Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks, with 100
    symbols.
    """

    name = "random_permutation"
    baseline = guessing(2)

    length: Annotated[int, Ge(2)] = 100
    symbols: Annotated[int, Ge(3)] = 100

    @property
    def input_size(self):
        return self.symbols

    @property
    def output_size(self):
        return self.symbols

    def sample(self, rng, batch):
        sequence = rng.integers(2, self.symbols, (self.length, batch))
        sequence[0] = rng.integers(0, 2, batch)
        return at_the_end(np.eye(self.symbols)[sequence], sequence[0])
