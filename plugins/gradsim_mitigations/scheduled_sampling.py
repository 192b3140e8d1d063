"""Units that are set to their targets at random, less and less often."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim.errors import InputError
from gradsim.types import PositiveFloat, Probability
from gradsim_mitigations.seeing import Forcing


@dataclass(frozen=True, eq=False)
class ScheduledSampling(Forcing):
    """Let each step see the targets y*_{t-1} in place of s_{t-1} with probability epsilon, or else s_{t-1}.

    s: the first k units of `block`; each step of each sequence by itself. epsilon falls from `first` to
    `last` with the number i of the update, epsilon = last + (first - last) d(i), by `decay`: "linear"
    d = 1 - i / updates, "exponential" d = k^i with k < 1, "inverse_sigmoid" d = k / (k + exp(i / k)) with
    k >= 1. A simulation has i = 0. In a validation nothing is forced.

    Where a unit is forced no gradient goes through it: E[J_t] = (1 - epsilon) J_f, were J_f the same.

    Bengio, Vinyals, Jaitly & Shazeer (2015), Scheduled sampling for sequence prediction with recurrent neural
    networks, section 2.4, who feed a word in where units are set here.
    """

    name = "scheduled_sampling"
    idle = {"first": 0.0, "last": 0.0}

    first: Probability = 1.0
    last: Probability = 0.0
    decay: Literal["linear", "exponential", "inverse_sigmoid"] = "linear"
    k: PositiveFloat | None = None

    def __post_init__(self):
        super().__post_init__()
        allowed = {
            "linear": (self.k is None, "is for other decays; leave it out"),
            "exponential": (self.k is not None and self.k < 1, "should be below 1, such as 0.99"),
            "inverse_sigmoid": (self.k is not None and self.k >= 1, "should be 1 or more, such as 100"),
        }
        fits, said = allowed[self.decay]
        if not fits:
            raise InputError(f'ScheduledSampling: with decay="{self.decay}" k {said} (got {self.k})')

    @property
    def idles(self):
        return not (self.first or self.last)

    def epsilon(self, moment):
        """The probability that a step sees the targets."""
        i, k = moment.update, self.k
        match self.decay:
            case "linear":
                decayed = 1 - i / max(1, moment.updates)
            case "exponential":
                decayed = k**i
            case "inverse_sigmoid":
                decayed = 1 / (1 + np.exp(min(i / k, 700.0)) / k)
        return self.last + (self.first - self.last) * decayed

    def draw(self, rng, steps, batch, moment):
        return {} if moment.validating else {"drawn": rng.random((steps, batch))}

    def share(self, steps, draws, moment):
        return (draws["drawn"][1:] < self.epsilon(moment)).astype(float)
