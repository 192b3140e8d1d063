"""A learning rate that falls by the same factor again and again."""

from __future__ import annotations

from dataclasses import dataclass

from gradsim import Schedule
from gradsim.types import PositiveInt
from gradsim_schedules.step_decay import Drop


@dataclass(frozen=True, eq=False)
class Exponential(Schedule):
    """Let the learning rate fall evenly, by gamma in `every` updates: gamma^((u - 1) / every).

    u: the update, 1 for the first. every = 1 is "ExponentialLR" in PyTorch, counted in updates;
    `step_decay` falls in steps where this goes smoothly.
    """

    name = "exponential"

    gamma: Drop = 0.1
    every: PositiveInt = 1000

    def factor(self, update, updates):
        return self.gamma ** ((update - 1) / self.every)
