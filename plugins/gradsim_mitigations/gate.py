"""An update gate around any cell."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Cell, Mitigation, Wrapper, hookimpl


@dataclass(frozen=True, eq=False)
class Gated(Wrapper):
    """The cell that `Gate` makes: s_t = u * s_{t-1} + (1 - u) * f(s_{t-1}, x_t)."""

    name = "gated"

    cell: Cell
    bias: float

    own_recurrent_weights = ("U",)

    @property
    def jacobian_groups(self):
        return 1

    def own_params(self, rng):
        m, n = self.state_size, self.input_size
        return {
            "W": rng.standard_normal((m, n)) / np.sqrt(n),
            "U": rng.standard_normal((m, m)) / np.sqrt(m),
            "b": np.full(m, self.bias),
        }

    def mix(self, own, state, inputs, new, xp):
        keep = 0.5 * (xp.tanh(0.5 * (inputs @ own["W"].T + state @ own["U"].T + own["b"])) + 1)
        return keep * state + (1 - keep) * new


@dataclass(frozen=True, eq=False)
class Gate(Mitigation):
    """Let a learned gate decide how much of the state each step replaces.

    s_t = u * s_{t-1} + (1 - u) * f(s_{t-1}, x_t), with u = sigmoid(W_u x_t + U_u s_{t-1} + b_u) over
    the whole state. b_u starts at `bias`: a large one keeps the state, and the gradient, for about
    1 + exp(bias) steps. Mitigations that start gates, such as `chrono_init`, start those of the cell
    inside, and leave this one alone.

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
