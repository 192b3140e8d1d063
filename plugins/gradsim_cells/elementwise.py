"""Blocks of steps of cells whose state goes on elementwise, by factors that do not depend on it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim.contracts.trajectory import PulledByVjp, Trajectory, pulled_back
from gradsim.types import Array


def recurrence(factor: Array, start: Array, added: Array) -> Array:
    """x_t = factor_t x_{t-1} + added_t from x_0 = start; all x, (steps + 1, ...)."""
    x = np.empty((len(added) + 1, *start.shape), dtype=added.dtype)
    x[0] = start
    for t, step in enumerate(factor):
        np.multiply(step, x[t], out=x[t + 1])
        x[t + 1] += added[t]
    return x


def joined(state: Array) -> Array:
    """States of two blocks, re and im, as complex numbers."""
    n = state.shape[-1] // 2
    return state[..., :n] + 1j * state[..., n:]


def parted(state: Array) -> Array:
    """Complex numbers as states of two blocks, re and im."""
    return np.concatenate((state.real, state.imag), axis=-1)


@dataclass(frozen=True, eq=False)
class ElementwiseSteps(Trajectory):
    """`factor` (steps, batch or 1, n): by what each step multiplies the state.

    Complex for a state of two blocks, real and imaginary part.
    """

    by_step = ("factor",)

    factor: Array

    def pull(self, incoming: Array, direct: Array) -> PulledByVjp:
        """See `Trajectory.pull`."""
        factor, whole = self.factor.conj(), np.iscomplexobj(self.factor)
        last, comes = joined(incoming) if whole else incoming, direct.any()
        added = joined(direct) if whole and comes else direct
        adjoints = np.empty((len(direct) + 1, *last.shape), dtype=last.dtype)
        adjoints[-1] = last

        def pull(row: int) -> None:
            np.multiply(factor[row], adjoints[row + 1], out=adjoints[row])
            if comes:
                adjoints[row] += added[row]

        first = pulled_back(adjoints.view(direct.dtype), pull)
        found, here = adjoints[first:], self[self.steps[first:]] if first else self
        return PulledByVjp(here, parted(found) if whole else found)
