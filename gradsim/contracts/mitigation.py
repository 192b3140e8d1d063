"""The contract of a mitigation, and what its penalties hand on."""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.problem import Pairs, Problem
from gradsim.contracts.trajectory import Trajectory
from gradsim.numerics import autodiff
from gradsim.types import Array, Params, StepData


class Mitigation(Plugin, ABC):
    """A named object that changes the cell, the first weights, the backward pass, the gradient or the update.

    A concrete mitigation is a frozen dataclass (``eq=False``) whose hook implementations, all
    ``@hookimpl(wrapper=True)``, take what they need of the arguments in `gradsim.contracts.hookspecs`,
    ``yield`` for the result so far and return the changed one.

    ``requires`` names recorders whose raw results its hooks read in ``measured[self]``; they are measured
    for it on its own `required_pairs`, whatever the user records.

    ``idle`` holds parameters with which it changes nothing, to the last bit, such as ``{"weight": 0.0}``;
    None if there are none. The conformance kit tries them.
    """

    requires: ClassVar[tuple[str, ...]] = ()
    idle: ClassVar[Mapping[str, Any] | None] = None

    @property
    def phases(self) -> Collection[str] | None:
        """The phases in which it acts, where its parameters choose among those that it has hooks for."""
        return None

    @property
    def required_pairs(self) -> Pairs:
        """The products P(t, k) that `requires` is measured on; all of them unless narrowed."""
        return Pairs()

    def refuse(self) -> None:
        """Raise an `InputError` where there is nothing for it to act on, before any mitigation draws.

        What all mitigations of a run refuse, here or in `gradsim_cell`, is told at once. It may name the
        `cell` that is going to run, the `shapes` of all parameters, the readout's included, by name, and the
        `task` (None without one).
        """

    def draw(self, rng: np.random.Generator) -> dict[str, Array]:
        """Draw, before the unroll, what is random; the hooks find it as ``draws[self]``.

        It may name more arguments, and is given those: `steps`, `batch`, `inputs` (steps, batch, input),
        the `cell`, `shapes` (of all parameters, by name) and the `moment`. What varies by step has leading
        axes (steps, batch), so that any pass can be replayed. Floats are given to the hooks in the dtype of
        the run. In a pass that validates it is asked only for a mitigation that hooks `gradsim_step_data`,
        and then one that is random has to name the `moment`; see `Cell.draw`.
        """
        return {}

    def carry_bytes(self, problem: Problem) -> float:
        """The bytes of what its hooks carry through a run and make on the way, for the plan."""
        return 0.0

    def flops(self, problem: Problem) -> float:
        """The floating-point operations of its hooks over the whole run, for the plan.

        Those of a rule or a penalty above all: what changes adjoints or gradients costs little beside these.
        A rule that says 0 counts as one that says nothing.
        """
        return 0.0


Draws = Mapping[Mitigation, StepData]
"""What each mitigation has drawn."""

Measured = Mapping[Mitigation, Mapping[str, Array]]
"""The raw results that each mitigation requires, by the name of the variable."""


@dataclass(frozen=True)
class Penalty:
    """A term added to the loss: its value and how it changes with parameters and states.

    `gradient` holds the derivative with respect to the parameters, the readout's included, at fixed states
    and adjoints. `state_gradient`, shape (time, batch, m) or None, is its derivative with respect to the
    states; the backward pass carries it through time.
    """

    value: float
    gradient: Params
    state_gradient: Array | None = None

    @classmethod
    def of(cls, function: Callable[..., Any], params: Params, states: Array | None = None) -> Penalty:
        """The penalty that a function of the parameters makes, or of parameters and states.

        Parameters
        ----------
        function
            ``function(params, xp)``, or ``function(params, states, xp)`` if states are given; it returns
            one number, computed with `xp`.
        params
            Named arrays; those that the function does not read get no gradient.
        states
            Shape (time, batch, m).
        """
        given: tuple[Any, ...] = (params,) if states is None else (params, states)
        value, slopes = autodiff.value_and_gradient(function, given)
        return cls(float(value), slopes[0], None if states is None else slopes[1])

    @classmethod
    def of_jacobians(
        cls, function: Callable[..., Any], trajectory: Trajectory, jacobians: Jacobians
    ) -> Penalty:
        """The penalty that a function of all step Jacobians makes; the last two are as a hook is given them.

        ``function(blocks, xp)`` takes blocks (steps, batch, g, k, k) and returns one number. How they
        move with parameters and states is found in pieces, so that memory stays bounded.
        """
        value, (slope,) = autodiff.value_and_gradient(function, (jacobians.blocks,))
        gradient, before = trajectory.call(trajectory.cell.jacobian_vjp, slope)
        return cls(float(value), gradient, np.concatenate((before, np.zeros_like(before[:1]))))

    def __add__(self, other: Penalty) -> Penalty:
        if not isinstance(other, Penalty):
            return NotImplemented
        names = {**self.gradient, **other.gradient}
        total = {n: np.asarray(self.gradient.get(n, 0) + other.gradient.get(n, 0)) for n in names}
        states = [p.state_gradient for p in (self, other) if p.state_gradient is not None]
        return Penalty(self.value + other.value, total, sum(states[1:], states[0]) if states else None)

    def __mul__(self, weight: float) -> Penalty:
        """The same, weighted."""
        states = None if self.state_gradient is None else weight * self.state_gradient
        return Penalty(weight * self.value, {n: weight * g for n, g in self.gradient.items()}, states)

    __rmul__ = __mul__
