"""A learning rate that rises first."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Schedule
from gradsim.types import PositiveInt


@dataclass(frozen=True, eq=False)
class Warmup(Schedule):
    """Raise the learning rate evenly over the first `length` updates, then go on with another schedule.

    u / length at update u <= length. `after`, if there is one, counts from there on: its first update is
    length + 1, and it has N - length of the N updates. Without it the full rate stays.

    Goyal et al. (2017), Accurate, large minibatch SGD, section 2.2 (gradual warmup).
    """

    name = "warmup"

    length: PositiveInt = 100
    after: Schedule | None = None

    def factor(self, update, updates):
        if update <= self.length:
            return update / self.length
        return 1.0 if self.after is None else self.after.factor(update - self.length, updates - self.length)
