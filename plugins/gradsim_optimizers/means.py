"""Running means of what comes at each update."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim.types import Array

Weight = Annotated[float, Interval(ge=0, lt=1)]
"""How much of a running mean, or of a velocity, stays at each update."""


def move(mean: Array, value: Array, weight: float, room: Array) -> None:
    """Let mean <- weight * mean + (1 - weight) * value; `room`, which may be `value`, is written over."""
    np.subtract(value, mean, out=room)
    room *= 1 - weight
    mean += room
