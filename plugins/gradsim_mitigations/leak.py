"""A leaky state."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
from annotated_types import Interval

from gradsim import Cell, Mitigation, Wrapper, hookimpl

Rate = Annotated[float, Interval(gt=0, le=1)]


@dataclass(frozen=True, eq=False)
class Leaky(Wrapper):
    """The cell that `Leak` makes: s_t = (1 - rate) s_{t-1} + rate f(s_{t-1}, x_t)."""

    name = "leaky"

    cell: Cell
    rate: Rate

    def mix(self, own, state, inputs, new, xp):
        return (1 - self.rate) * state + self.rate * new

    @property
    def free(self):
        """Its derivatives are only quicker ones."""
        return self.cell.free

    def step_jacobian(self, params, state, inputs, **data):
        inner = self.cell.step_jacobian(params, state, inputs, **data)
        unit = np.eye(inner.shape[-1], dtype=inner.dtype)
        return (1 - self.rate) * unit + self.rate * inner

    def state_vjp(self, params, state, inputs, cotangent, **data):
        inner = self.cell.state_vjp(params, state, inputs, cotangent, **data)
        return (1 - self.rate) * cotangent + self.rate * inner

    def params_vjp(self, params, state, inputs, cotangent, **data):
        return self.cell.params_vjp(params, state, inputs, self.rate * cotangent, **data)


@dataclass(frozen=True, eq=False)
class Leak(Mitigation):
    """Let only a part of the state be replaced at each step: s_t = (1 - rate) s_{t-1} + rate f(.).

    J_t = (1 - rate) I + rate J_f: with a small rate every eigenvalue moves towards 1. rate = 1
    changes nothing.

    Jaeger et al. (2007), Optimization and applications of echo state networks with leaky-integrator
    neurons, eq. 1 (there as dt / time constant).
    """

    name = "leak"
    idle = {"rate": 1.0}

    rate: Rate = 0.1

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        return cell if self.rate == 1 else Leaky(cell, self.rate)
