"""The contract of a mitigation, and what its hooks hand on."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from gradsim.contracts.plugin import Plugin
from gradsim.types import Array, Params, StepData

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell


class Mitigation(Plugin, ABC):
    """A named object that changes the initial weights, the cell, the backward pass or the gradient.

    A concrete mitigation is a frozen dataclass (``eq=False``) whose hook implementations, all
    ``@hookimpl(wrapper=True)``, take what they need of the arguments in `gradsim.contracts.hookspecs`,
    ``yield`` for the result so far and return the changed one.

    ``requires`` names recorders whose raw results the hooks read in ``measured``.
    """

    requires: ClassVar[tuple[str, ...]] = ()

    def draw(self, rng: np.random.Generator, steps: int, batch: int) -> dict[str, Array]:
        """Draw, before the unroll, what is random; the hooks find it as ``draws[self]``.

        What varies by step has leading axes (steps, batch), so that any pass can be replayed. Floats
        are given to the hooks in the dtype of the run.
        """
        return {}


Draws = Mapping[Mitigation, StepData]


@dataclass(frozen=True)
class BackwardJacobian:
    """What carries the adjoint back through a range of steps.

    `blocks`, shape (steps, batch, g, k, k): the step Jacobians of the backward pass.
    `reach`, shape (steps,), int: the earliest state that the loss at each step reaches; 0 is all
    the way. The loss at step s acts on state k only if k >= reach[s].
    """

    blocks: Array
    reach: Array

    def reaching(self, earliest: Array) -> BackwardJacobian:
        """The same, with the loss at each step reaching no state before `earliest`, shape (steps,)."""
        return replace(self, reach=np.maximum(self.reach, earliest))


class UnreadJacobian(BackwardJacobian):
    """One whose blocks are made when they are read: what changes the reach alone needs none."""

    _make: Callable[[], Array]

    def __init__(self, blocks: Array | Callable[[], Array], reach: Array) -> None:
        given = {"_make": blocks} if callable(blocks) else {"blocks": blocks}
        for name, value in {**given, "reach": reach}.items():
            object.__setattr__(self, name, value)

    def __getattr__(self, name: str) -> Array:
        if name != "blocks":
            raise AttributeError(name)
        blocks: Array = self._make()
        object.__setattr__(self, "blocks", blocks)
        return blocks

    @property
    def unread(self) -> bool:
        """Whether nobody has read the blocks."""
        return "blocks" not in vars(self)

    def reaching(self, earliest: Array) -> BackwardJacobian:
        """See `BackwardJacobian.reaching`; reads nothing."""
        if not self.unread:
            return super().reaching(earliest)
        return UnreadJacobian(self._make, np.maximum(self.reach, earliest))


@dataclass(frozen=True)
class Penalty:
    """A term added to the loss: its value and how it changes with parameters and states.

    `gradient` holds the derivative with respect to the parameters, at fixed states and adjoints.
    `state_gradient`, shape (time, batch, m) or None, is its derivative with respect to the states;
    the backward pass carries it through time.
    """

    value: float
    gradient: Params
    state_gradient: Array | None = None

    def __add__(self, other: Penalty) -> Penalty:
        names = {**self.gradient, **other.gradient}
        total = {n: np.asarray(self.gradient.get(n, 0) + other.gradient.get(n, 0)) for n in names}
        states = [p.state_gradient for p in (self, other) if p.state_gradient is not None]
        return Penalty(self.value + other.value, total, sum(states[1:], states[0]) if states else None)


@dataclass(frozen=True)
class Pass:
    """What a mitigation may read of the run so far. The arrays are read-only.

    Leading axes: `states` (time 0..T, batch, m), `inputs` and `step_data` (step, batch, ...).
    """

    cell: Cell
    params: Params
    states: Array
    inputs: Array
    step_data: StepData
