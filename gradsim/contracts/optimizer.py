"""The contracts of an optimizer and of a learning-rate schedule."""

from __future__ import annotations

import math
import numbers
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np

from gradsim.contracts.plugin import Plugin, calling
from gradsim.errors import PluginError, shown
from gradsim.numerics.locked import locked
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
        with calling(self.schedule, "factor"):
            factor = self.schedule.factor(update, updates)
        if not is_factor(factor):
            raise PluginError(
                f"{self.schedule!r}: factor({update}, {updates}) should be finite and 0 or more, not "
                f"{shown(factor)}"
            )
        return self.learning_rate * float(factor)

    def changed(
        self, params: Array, gradient: Array, slots: Mapping[str, Array], rate: float, update: int
    ) -> Array:
        """What `change` adds to the parameters, and it changes nothing but what lies in the slots.

        Raises
        ------
        PluginError
            It is no vector of numbers as long as the parameters, or a slot is no longer the one given.
        FloatingPointError
            Where NumPy raises it.
        """
        given = dict(slots)
        try:
            with calling(self, "change", slots):
                change = self.change(locked(params), locked(gradient), given, rate, update)
        except PluginError as error:
            if isinstance(error.__cause__, FloatingPointError):  # numbers, no mistake in the plugin
                raise error.__cause__ from None
            raise
        if not (isinstance(change, np.ndarray) and change.shape == params.shape and change.dtype.kind == "f"):
            raise PluginError(
                f"{self!r}: change() should give floats of shape {params.shape}, not {shown(change)}"
            )
        for name in slots.keys() | given.keys():
            if given.get(name) is not slots.get(name):
                raise PluginError(
                    f"{self!r}: change() puts another array in the place of slots[{name!r}], where it is "
                    "lost; change the slots in place, and name them in `slots`"
                )
        return change


def is_factor(value: object) -> bool:
    """Whether a learning rate can be multiplied by it."""
    return isinstance(value, numbers.Real) and 0 <= float(value) < math.inf


def slot_mistakes(optimizer: Optimizer) -> Iterator[str]:
    """What is wrong with the names of what an optimizer remembers."""
    found = optimizer.slots
    if not isinstance(found, tuple) or not all(isinstance(n, str) and n.isidentifier() for n in found):
        yield f'slots is {found!r}; it should be a tuple of names, such as ("velocity",)'
    elif len(set(found)) < len(found):
        yield f"slots has a name twice: {found!r}; rename one"
