"""An update gate around any cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Mitigation, Wrapper, hookimpl, pick


@dataclass(frozen=True, eq=False)
class Gated(Wrapper):
    """The cell that `Gate` makes: s_t = u * s_{t-1} + (1 - u) * f(s_{t-1}, x_t)."""

    name = "gated"

    cell: Cell
    bias: float

    @property
    def jacobian_groups(self):
        return 1

    @property
    def prefix(self):
        """What the names of its parameters begin with; unlike those of a gate further inside."""
        inner, depth = self.cell, 1
        while isinstance(inner, Wrapper):
            depth += isinstance(inner, Gated)
            inner = inner.cell
        return "gate_" if depth == 1 else f"gate{depth}_"

    @property
    def recurrent_weights(self):
        return (*self.cell.recurrent_weights, self.prefix + "U")

    def init_params(self, rng):
        m, n = self.state_size, self.input_size
        return self.cell.init_params(rng) | {
            self.prefix + "W": rng.standard_normal((m, n)) / np.sqrt(n),
            self.prefix + "U": rng.standard_normal((m, m)) / np.sqrt(m),
            self.prefix + "b": np.full(m, self.bias),
        }

    def step(self, params, state, inputs, xp, **data):
        w, u, b = (params[self.prefix + n] for n in "WUb")
        keep = 0.5 * (xp.tanh(0.5 * (inputs @ w.T + state @ u.T + b)) + 1)
        new = self.cell.step(params, state, inputs, xp, **pick(data, self.cell.step_data))
        return keep * state + (1 - keep) * new


@dataclass(frozen=True, eq=False)
class Gate(Mitigation):
    """Let a learned gate decide how much of the state each step replaces.

    s_t = u * s_{t-1} + (1 - u) * f(s_{t-1}, x_t), with u = sigmoid(W_u x_t + U_u s_{t-1} + b_u) over
    the whole state. b_u starts at `bias`: a large one keeps the state, and the gradient, for about
    1 + exp(bias) steps.

    Cho et al. (2014), Learning phrase representations using RNN encoder-decoder, eq. 6-7 (update
    gate); as a gate around another network Collins, Sohl-Dickstein & Sussillo (2017), Capacity and
    trainability in recurrent neural networks (UGRNN).
    """

    name = "gate"

    bias: float = 1.0

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        cell = yield
        return Gated(cell, self.bias)
