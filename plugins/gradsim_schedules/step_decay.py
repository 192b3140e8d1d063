"""A learning rate that falls in steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from gradsim import Schedule
from gradsim.types import PositiveInt

Drop = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, eq=False)
class StepDecay(Schedule):
    """Multiply the learning rate by gamma after every `every` updates: gamma^floor((u - 1) / every).

    u: the update, 1 for the first. The first `every` updates have the full rate.

    As "StepLR" in PyTorch, counted in updates and not in epochs.
    """

    name = "step_decay"

    gamma: Drop = 0.1
    every: PositiveInt = 1000

    def factor(self, update, updates):
        return self.gamma ** ((update - 1) // self.every)
