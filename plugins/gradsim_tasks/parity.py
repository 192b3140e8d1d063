"""The parity of a sequence of bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import numpy as np
from annotated_types import Ge

from gradsim import Episode
from gradsim_tasks.answers import Classes, at_the_end, guessing


@dataclass(frozen=True, eq=False)
class Parity(Classes):
    """Say whether the number of ones so far is odd.

    The input is +1 or -1 at every step, both as likely, one feature. The class is 1 where the number of
    steps with +1, that of the same step included, is odd, else 0. It is asked at the `asked` steps: at the
    "end" of the sequence only, or "always", with the loss as mean over the steps. No part of the sequence
    tells anything about the answer without all the rest; guessing gives ln 2 = 0.693 nats.

    Bengio, Simard & Frasconi (1994), Learning long-term dependencies with gradient descent is difficult,
    asked at the end of the sequence.
    """

    name = "parity"
    input_size = 1
    output_size = 2
    baseline = guessing(2)

    length: Annotated[int, Ge(2)] = 50
    asked: Literal["end", "always"] = "end"

    def sample(self, rng, batch):
        ones = rng.integers(0, 2, (self.length, batch))
        inputs, odd = 2.0 * ones[..., None] - 1, ones.cumsum(axis=0) % 2
        if self.asked == "end":
            return at_the_end(inputs, odd[-1])
        return Episode(inputs, odd, np.full(odd.shape, 1 / self.length))
