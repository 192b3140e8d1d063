"""A learning rate that falls with the root of the number of updates."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Schedule
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class InverseSqrt(Schedule):
    """Raise the learning rate over `warmup` updates, then let it fall with 1 / sqrt(u).

    min(u / warmup, sqrt(warmup / u)) at update u: the full rate at u = warmup. warmup = 1 falls from
    the start.

    Vaswani et al. (2017), Attention is all you need, eq. 3, there as (model size * warmup)^(-1/2) times
    this.
    """

    name = "inverse_sqrt"

    warmup: PositiveInt = 100

    def factor(self, update, updates):
        return min(update / self.warmup, (self.warmup / update) ** 0.5)
