"""The delayed exclusive or."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Ge

from gradsim import Episode
from gradsim.errors import InputError
from gradsim.types import PositiveInt
from gradsim_tasks.answers import Classes, guessing


@dataclass(frozen=True, eq=False)
class DelayedXor(Classes):
    """Say at every step whether the bits of `delay` and of 2 `delay` steps ago differ.

        y_t = x_{t - delay} XOR x_{t - 2 delay}

    x_t is a fair bit, 0 or 1, one feature; y_t is one of two classes. The loss is the mean over the
    length - 2 delay steps behind the first 2 delay, which have no answer. Guessing gives ln 2 = 0.693 nats.

    Engelken (2023), Gradient flossing: improving gradient descent through dynamic control of Jacobians, with
    length 300 and delay 10. The equation is that of the author's public code. There a single logistic readout
    unit says the difference of our two, which is the same loss, and the mean begins one step earlier, at a
    step whose answer no input tells.
    """

    name = "delayed_xor"
    input_size = 1
    output_size = 2
    baseline = guessing(2)

    length: Annotated[int, Ge(3)] = 300
    delay: PositiveInt = 10

    def __post_init__(self):
        super().__post_init__()
        if 2 * self.delay >= self.length:
            raise InputError(
                f"DelayedXor: 2 delay should be below length={self.length} (got delay {self.delay}); "
                f"length={2 * self.delay + 1} would have one answer"
            )

    def sample(self, rng, batch):
        bits = rng.integers(0, 2, (self.length, batch))
        answers, weights = np.zeros_like(bits), np.zeros(bits.shape)
        first = 2 * self.delay
        answers[first:] = bits[self.delay : -self.delay] ^ bits[:-first]
        weights[first:] = 1 / (self.length - first)
        return Episode(bits[..., None].astype(np.float64), answers, weights)
