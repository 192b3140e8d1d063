"""The contracts of an optimizer and of a learning-rate schedule."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from gradsim.contracts.plugin import Plugin
from gradsim.errors import PluginError
from gradsim.types import Array, PositiveFloat


class Schedule(Plugin, ABC):
    """How the learning rate changes over a training.

    A concrete schedule is a frozen dataclass (``eq=False``) that gives `name` and `factor`. It remembers
    nothing, so that a training can be resumed at any update.
    """

    @abstractmethod
    def factor(self, update: int, updates: int) -> float:
        """What the learning rate is multiplied by at an update, 1..`updates`: 0 or more, finite."""


@dataclass(frozen=True, eq=False)
class Optimizer(Plugin, ABC):
    """How a gradient changes the parameters.

    A concrete optimizer is a frozen dataclass (``eq=False``) that gives `name` and `change`. Parameters
    and gradient come as one flat vector each, all parameters side by side. What it must remember from one
    update to the next are the vectors named in `slots`, of the same length, zeros before the first update.
    `schedule` changes the learning rate; it stays as it is without one.
    """

    slots: ClassVar[tuple[str, ...]] = ()

    learning_rate: PositiveFloat
    schedule: Schedule | None = field(default=None, kw_only=True)

    @abstractmethod
    def change(
        self, params: Array, gradient: Array, slots: Mapping[str, Array], rate: float, update: int
    ) -> Array:
        """What is added to the parameters: a new array, of their dtype.

        Parameters
        ----------
        params, gradient
            Shape (size,); they must not be changed.
        slots
            Named vectors (size,), dtype of the parameters, to be changed in place.
        rate
            The learning rate of this update, schedule included; nothing changes if it is 0.
        update
            1 at the first update.
        """

    def rate(self, update: int, updates: int) -> float:
        """The learning rate at an update, 1..`updates`."""
        if self.schedule is None:
            return self.learning_rate
        factor = float(self.schedule.factor(update, updates))
        if not 0 <= factor < math.inf:
            raise PluginError(
                f"{self.schedule!r}: factor({update}, {updates}) should be finite and 0 or more, not {factor}"
            )
        return self.learning_rate * factor
