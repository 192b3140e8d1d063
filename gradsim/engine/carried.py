"""Adjoints that have been carried back through some steps, and what they add to the gradient."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from gradsim.contracts.pieces import Adjoints, Contributions
from gradsim.contracts.plugin import calling
from gradsim.contracts.trajectory import Pulled, Trajectory
from gradsim.engine.derivatives import singular
from gradsim.engine.pulled import contributions_of, gradient_of
from gradsim.errors import NonFiniteError
from gradsim.numerics.scaled import Axes, Scaled, add, largest
from gradsim.types import Array, Params


@dataclass(frozen=True)
class Go:
    """Adjoints (steps + 1, batch, m) at the times of the states of a trajectory, carried back in one go.

    The first ones are what the steps make of the others: no loss need have come in there. `pulled`: the same
    adjoints over 2**`exponent`, if the cell made all of them.
    """

    trajectory: Trajectory
    adjoints: Scaled
    pulled: Pulled | None = None
    exponent: int = 0

    def contributions(self) -> dict[str, Scaled]:
        """What enters dL/dparams at each step: mantissas (steps, *param), exponents (steps, 1...).

        Raises
        ------
        NonFiniteError
            Some are NaN, or infinite, though the adjoints are not.
        """
        exponent = np.full(len(self.trajectory.steps), self.exponent, dtype=np.int32)
        parts = self._pulled(contributions_of)
        if parts is None or self._loses({n: part[:1] for n, part in parts.items()}, slice(0, 1)):
            # A contribution is a sum over the batch, whose elements must share their exponent for it.
            parts, exponent = self._with_room(self.trajectory.contributions, (1, 2))
        return {
            n: Scaled(parts[n], exponent.reshape(-1, *(1,) * (parts[n].ndim - 1)))
            for n in self.trajectory.params
        }

    def gradient(self) -> dict[str, Scaled]:
        """The sum of the contributions; raises as they do."""
        exponent = np.asarray(np.int32(self.exponent))
        parts = self._pulled(gradient_of)
        if parts is None:
            # What is tiny beside the largest is lost, as in any sum of the two.
            parts, exponent = self._with_room(self.trajectory.gradient, None)
        if len(self.trajectory.steps) > 1 and self._loses(parts, slice(None)):
            half = len(self.trajectory.steps) // 2
            return _sum_of([self._part(slice(half, None)), self._part(slice(0, half))])
        return {n: Scaled(parts[n], exponent) for n in self.trajectory.params}

    def _pulled(self, made: Callable[[Trajectory, Pulled], Params]) -> Params | None:
        """What the cell made of all steps, if it did and it is finite."""
        if self.pulled is None:
            return None
        return _finite(self.trajectory, partial(made, self.trajectory, self.pulled))

    def _part(self, rows: slice) -> Go:
        """Some of the steps, by themselves."""
        steps = self.trajectory.steps[rows]
        first = steps.start - self.trajectory.first
        return Go(self.trajectory[steps], self.adjoints[first : first + len(steps) + 1])

    def _loses(self, parts: Params, rows: slice) -> bool:
        """Whether so little is left of what these steps contribute because adjoints are small there."""
        adjoints = self.adjoints[1:][rows]
        number = np.finfo(adjoints.mantissa.dtype)
        small = [n for n, part in parts.items() if np.abs(part).max(initial=0.0) < 1024 * number.tiny]
        sizes = largest(adjoints.mantissa) if small else np.ones(1)
        if not ((sizes > 0) & (sizes < number.eps)).any():
            return False
        # Nothing is right where larger adjoints make nothing, too.
        here = self.trajectory[self.trajectory.steps[rows]]
        there = _finite(here, partial(here.gradient, adjoints.settled(keep=0).mantissa))
        return there is None or any(there[n].any() for n in small)

    def _with_room(self, make: Callable[[Array], Params], axes: Axes) -> tuple[Params, Array]:
        """What is made of adjoints up to 1, and its exponents: large states and inputs do not overflow."""
        cotangent = self.adjoints[1:].common(axes).settled(axes, keep=0)
        parts = _finite(self.trajectory, partial(make, cotangent.mantissa))
        if parts is None:
            steps = self.trajectory.steps
            raise NonFiniteError(
                f"{self.trajectory.cell!r}: its derivative with respect to the parameters is NaN or infinite "
                f"in steps {steps[0]} to {steps[-1]}, where adjoints are finite"
                f"{singular(self.trajectory.cell, 'params_vjp')}"
            )
        return parts, cotangent.exponent


@dataclass(frozen=True)
class Carried:
    """Adjoints that have been carried back through a trajectory, in goes from its end on.

    `adjoints` (steps + 1, batch, m) as in a go; `factor` (steps, batch): size after the mitigations of the
    adjoint after each step over size before.
    """

    trajectory: Trajectory
    adjoints: Scaled
    factor: Array
    goes: list[Go]

    @classmethod
    def of(cls, trajectory: Trajectory, goes: list[Go]) -> Carried:
        """Those of some goes, which mitigations have left alone."""
        first, *later = [go.adjoints for go in goes[::-1]]
        adjoints = _concatenated([first, *(x[1:] for x in later)]) if later else first
        return cls(trajectory, adjoints, np.ones(trajectory.after.shape[:2]), goes)

    @property
    def adjoint(self) -> Scaled:
        """The adjoints after each step."""
        return self.adjoints[1:]

    def starting(self, adjoint: Scaled, factor: Array) -> tuple[Scaled, Array]:
        """Adjoints and factors with those of time 0 in front, where the trajectory begins."""
        first, factors = self.adjoints[0], np.concatenate((factor[None], self.factor))
        if np.array_equal(adjoint.over(first.exponent), first.mantissa):
            return self.adjoints, factors  # nothing is copied
        return _concatenated([Scaled(*(x[None] for x in _fields(adjoint))), self.adjoint]), factors

    def contributions(self) -> dict[str, Scaled]:
        """What enters dL/dparams at each step: mantissas (steps, *param), exponents (steps, 1...)."""
        parts = [go.contributions() for go in self.goes[::-1]]
        return {n: _concatenated([p[n] for p in parts]) for n in parts[0]} if len(parts) > 1 else parts[0]

    def gradient(self) -> dict[str, Scaled]:
        """The sum of the contributions."""
        return _sum_of(self.goes)


def _finite(trajectory: Trajectory, make: Callable[[], Params]) -> Params | None:
    """What is made of a trajectory, if it is finite."""
    with np.errstate(all="ignore"), calling(trajectory.cell, "params_vjp", trajectory.params):
        parts = make()
    return parts if all(np.isfinite(part).all() for part in parts.values()) else None


def joined(pieces: list[Any], trajectory: Trajectory) -> Adjoints | Contributions:
    """One piece of a whole trajectory, from those of its steps, the last ones first."""
    order = pieces[::-1]
    if isinstance(order[0], Adjoints):
        factor = np.concatenate([p.factor for p in order])
        return Adjoints(trajectory, _concatenated([p.adjoint for p in order]), factor)
    parts = {n: _concatenated([p.parts[n] for p in order]) for n in order[0].parts}
    return Contributions(trajectory, parts)


def _concatenated(scaled: list[Scaled]) -> Scaled:
    return Scaled(*(np.concatenate(fields) for fields in zip(*map(_fields, scaled), strict=True)))


class GradientSum:
    """Adds up gradients whose exponents may differ: {name: mantissa (*param), exponent ()}."""

    def __init__(self) -> None:
        self._total: dict[str, Scaled] = {}

    def add(self, parts: dict[str, Scaled]) -> None:
        """Add the part of some steps."""
        for name, part in parts.items():
            total = self._total.get(name)
            if total is None:
                # A copy, because the next ones are added into its memory.
                self._total[name] = Scaled(part.mantissa.copy(), part.exponent)
            else:
                total = total.settled(None)  # so that sums have room
                lost = _is_lost(part, total)
                self._total[name] = total if lost else _added(total, part.settled(None))

    def parts(self) -> dict[str, Scaled]:
        """The sum."""
        return self._total


def _sum_of(goes: list[Go]) -> dict[str, Scaled]:
    if len(goes) == 1:
        return goes[0].gradient()
    total = GradientSum()
    for go in goes:
        total.add(go.gradient())
    return total.parts()


def combined(one: dict[str, Scaled], other: dict[str, Scaled]) -> dict[str, Scaled]:
    """What enters the gradient at each step by both ways: mantissas (n, *param), exponents (n, 1...)."""
    both = {
        n: add(one[n], part, tuple(range(1, part.mantissa.ndim))) for n, part in other.items() if n in one
    }
    return one | other | both


def _added(a: Scaled, b: Scaled) -> Scaled:
    """Their sum, in the memory of `a` where both have the same exponent, as they nearly always do."""
    if a.exponent == b.exponent:
        np.add(a.mantissa, b.mantissa, out=a.mantissa)
        return a
    if not (a.mantissa.any() and b.mantissa.any()):  # a zero does not hold down the other
        return a if a.mantissa.any() else Scaled(b.mantissa.copy(), b.exponent)
    exponent = np.maximum(a.exponent, b.exponent)
    return Scaled(a.over(exponent) + b.over(exponent), exponent)


def _is_lost(part: Scaled, total: Scaled) -> bool:
    """Whether nothing of one is left over the exponent of the other: as a rule where adjoints vanish."""
    if part.exponent >= total.exponent or not total.mantissa.any():
        return False
    number = np.finfo(part.mantissa.dtype)
    top = math.frexp(np.abs(part.mantissa).max(initial=0.0))[1] + int(part.exponent)
    return top < int(total.exponent) + number.minexp - number.nmant - 1


def _fields(scaled: Scaled) -> tuple[Array, Array]:
    return scaled.mantissa, scaled.exponent
