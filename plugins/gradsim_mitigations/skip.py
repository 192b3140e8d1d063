"""Connections that skip steps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Mitigation, hookimpl
from gradsim.types import NonNegativeFloat, PositiveInt
from gradsim_mitigations.remembering import Remembering


@dataclass(frozen=True, eq=False)
class Skipping(Remembering):
    """The cell that `Skip` makes: s_t = f(s_{t-1}, x_t) + scale s_{t-delay}."""

    name = "skipping"

    scale: NonNegativeFloat

    @property
    def paths(self):
        return tuple(dict.fromkeys((*self.cell.paths, "skip")))

    def initial_state(self):
        first = self.cell.initial_state()
        return np.concatenate((first, np.zeros((self.delay - 1) * len(first))))

    def seen(self, size):
        return slice(None, size)


@dataclass(frozen=True, eq=False)
class Skip(Mitigation):
    """Add an older state at each step: s_t = f(s_{t-1}, x_t) + scale s_{t-delay}, with zeros before time 0.

    f: the step of the cell. The last `delay` states are carried, as further blocks. ds_t/ds_k is the sum over
    all ways from k to t in steps of 1, with a factor J_f, and of `delay`, with a factor `scale`: along the
    skips alone scale^((t - k) / delay), so that what vanishes by J_f does so `delay` times more slowly. As a
    path it is "skip". With scale = 1 and a J_f that does not contract, products grow.

    Zhang et al. (2016), Architectural complexity measures of recurrent neural networks, section 3.2
    (recurrent skip coefficient), where a weight stands in place of `scale`; the cell `narx` has weights for
    each delay.
    """

    name = "skip"
    idle = {"scale": 0.0}

    delay: PositiveInt = 4
    scale: NonNegativeFloat = 0.5

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        return Skipping(cell, self.delay, self.scale) if self.scale else cell
