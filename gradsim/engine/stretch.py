"""Stretches of the backward pass, and what they add to the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim.contracts.trajectory import Pulled, Unrolled
from gradsim.numerics.scaled import Scaled, add
from gradsim.types import Array, Params


@dataclass(frozen=True)
class Stretch:
    """Adjoints (n, batch, m) at the times after some steps, and their way into the gradient.

    `factor` (n, batch): size after the mitigations of the backward step over size before. `pulled`:
    the same adjoints over 2**`exponent`, if the granule could be pulled back in one go.
    """

    steps: range
    taken: Unrolled
    adjoint: Scaled
    factor: Array
    pulled: Pulled | None = None
    exponent: int = 0

    def after(self, adjoint: Scaled, factor: Array) -> tuple[Scaled, Array]:
        """Adjoints and factors with those of the time before in front."""
        factors = np.concatenate((factor[None], self.factor))
        if self.pulled is not None and np.array_equal(adjoint.value, self._first.value):
            exponent = np.concatenate((self.adjoint.exponent[:1], self.adjoint.exponent))
            return Scaled(self.pulled.adjoints, exponent), factors
        both = (
            np.concatenate((x[None], y)) for x, y in zip(_fields(adjoint), _fields(self.adjoint), strict=True)
        )
        return Scaled(*both), factors

    @property
    def _first(self) -> Scaled:
        """What comes out at the start, if the granule was pulled back in one go."""
        assert self.pulled is not None
        return Scaled(self.pulled.adjoints[0], self.adjoint.exponent[0])

    def contributions(self) -> dict[str, Scaled]:
        """What enters dL/dparams at each step: mantissas (n, *param), exponents (n, 1...)."""
        if self.pulled is not None:
            parts = self.pulled.contributions()
            exponent = np.full(len(self.factor), self.exponent, dtype=np.int32)
        else:
            cotangent = self.adjoint.common((1, 2))
            s, exponent = self.taken, cotangent.exponent
            parts = s.cell.params_vjp(s.params, s.states[:-1], s.inputs, cotangent.mantissa, **s.step_data)
        return {
            n: Scaled(parts[n], exponent.reshape(-1, *(1,) * (parts[n].ndim - 1))) for n in self.taken.params
        }

    def gradient(self) -> dict[str, Scaled]:
        """The sum of the contributions."""
        if self.pulled is not None:
            parts, exponent = self.pulled.gradient(), np.asarray(np.int32(self.exponent))
        else:
            cotangent = self.adjoint.common(None)
            s, exponent = self.taken, cotangent.exponent
            data = {n: _flat(x) for n, x in s.step_data.items()}
            parts = s.cell.params_vjp(
                s.params, _flat(s.states[:-1]), _flat(s.inputs), _flat(cotangent.mantissa), **data
            )
        return {n: Scaled(parts[n], exponent) for n in self.taken.params}


class GradientSum:
    """Adds up gradients whose exponents may differ: {name: mantissa (*param), exponent ()}."""

    def __init__(self) -> None:
        self._total: dict[str, Scaled] = {}

    def add(self, parts: dict[str, Scaled]) -> None:
        """Add the part of some steps."""
        for name, part in parts.items():
            total = self._total.get(name)
            if total is None:
                self._total[name] = Scaled(part.mantissa.copy(), part.exponent)
            else:
                self._total[name] = _added(total, part)

    def values(self) -> Params:
        """The sum. An element too large for the dtype is NaN; one too small is zero, as in any sum."""
        return {n: g.rounded for n, g in self._total.items()}


def _added(a: Scaled, b: Scaled) -> Scaled:
    """Their sum, in the memory of `a` where both have the same exponent, as they nearly always do."""
    if a.exponent == b.exponent:
        np.add(a.mantissa, b.mantissa, out=a.mantissa)
        return a
    return add(a, b, axis=None)


def _fields(scaled: Scaled) -> tuple[Array, Array]:
    return scaled.mantissa, scaled.exponent


def _flat(x: Array) -> Array:
    return x.reshape(-1, *x.shape[2:])
