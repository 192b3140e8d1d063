"""Adjoints that have been carried back through some steps, and what they add to the gradient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsim.contracts.recorder import Adjoints, Contributions
from gradsim.contracts.trajectory import Pulled, Trajectory
from gradsim.numerics.scaled import Scaled, add
from gradsim.types import Array, Params


@dataclass(frozen=True)
class Carried:
    """Adjoints (steps, batch, m) at the times after the steps of a trajectory.

    `factor` (steps, batch): size after the mitigations of the adjoint over size before. `pulled`: the same
    adjoints over 2**`exponent`, if the cell could carry them through all steps in one go.
    """

    trajectory: Trajectory
    adjoint: Scaled
    factor: Array
    pulled: Pulled | None = None
    exponent: int = 0

    def after(self, adjoint: Scaled, factor: Array) -> tuple[Scaled, Array]:
        """Adjoints and factors with those of the time before in front."""
        factors = np.concatenate((factor[None], self.factor))
        if self.pulled is not None and np.array_equal(adjoint.value, self._first.value):
            # The array that the cell made has it in front already: nothing is copied.
            exponent = np.concatenate((self.adjoint.exponent[:1], self.adjoint.exponent))
            return Scaled(self.pulled.adjoints, exponent), factors
        both = (
            np.concatenate((x[None], y)) for x, y in zip(_fields(adjoint), _fields(self.adjoint), strict=True)
        )
        return Scaled(*both), factors

    @property
    def _first(self) -> Scaled:
        """What comes out at the start, if the adjoints were carried in one go."""
        assert self.pulled is not None
        return Scaled(self.pulled.adjoints[0], self.adjoint.exponent[0])

    def contributions(self) -> dict[str, Scaled]:
        """What enters dL/dparams at each step: mantissas (steps, *param), exponents (steps, 1...)."""
        if self.pulled is not None:
            parts = self.pulled.contributions()
            exponent = np.full(len(self.factor), self.exponent, dtype=np.int32)
        else:
            # A contribution is a sum over the batch, whose elements must share their exponent for it.
            cotangent = self.adjoint.common((1, 2))
            exponent = cotangent.exponent
            parts = self.trajectory.contributions(cotangent.mantissa)
        return {
            n: Scaled(parts[n], exponent.reshape(-1, *(1,) * (parts[n].ndim - 1)))
            for n in self.trajectory.params
        }

    def gradient(self) -> dict[str, Scaled]:
        """The sum of the contributions."""
        if self.pulled is not None:
            parts, exponent = self.pulled.gradient(), np.asarray(np.int32(self.exponent))
        else:
            # What is tiny beside the largest is lost, as in any sum of the two.
            cotangent = self.adjoint.common(None)
            parts, exponent = self.trajectory.gradient(cotangent.mantissa), cotangent.exponent
        return {n: Scaled(parts[n], exponent) for n in self.trajectory.params}


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
                self._total[name] = _added(total, part)

    def values(self) -> Params:
        """The sum. An element too large for the dtype is NaN; one too small is zero, as in any sum."""
        return {n: g.rounded for n, g in self._total.items()}


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
    return add(a, b, axis=None)


def _fields(scaled: Scaled) -> tuple[Array, Array]:
    return scaled.mantissa, scaled.exponent
