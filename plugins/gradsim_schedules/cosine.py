"""A learning rate that falls along half a cosine."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gradsim import Schedule
from gradsim.types import Probability


@dataclass(frozen=True, eq=False)
class Cosine(Schedule):
    """Let the learning rate fall to `final` of it along half a cosine.

    final + (1 - final) (1 + cos(pi (u - 1) / N)) / 2, at update u of N: 1 at the first update, and
    `final` would come just after the last one.

    Loshchilov & Hutter (2017), SGDR: stochastic gradient descent with warm restarts, eq. 5, without
    restarts; "CosineAnnealingLR" in PyTorch.
    """

    name = "cosine"

    final: Probability = 0.0

    def factor(self, update, updates):
        fallen = (1 - math.cos(math.pi * (update - 1) / updates)) / 2
        return 1 - (1 - self.final) * fallen
