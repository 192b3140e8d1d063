"""Diagonal state spaces, one for each channel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradsim import Cell, Initializer
from gradsim.contracts.validation import refuse_reversed
from gradsim.errors import InputError
from gradsim.types import PositiveFloat, PositiveInt
from gradsim_cells.algebra import normal
from gradsim_initializers import HiPPO


@dataclass(frozen=True, eq=False)
class S4D(Cell):
    """s_t = exp(d A) s_{t-1} + (exp(d A) - 1) / A u_t, read as y_t = 2 Re(sum of C s_t) + D u_t.

    u = W x: the channels (hidden_size = n), each of which drives `states` = k complex states by itself. It is
    the exact solution of s' = A s + u (zero-order hold) over the time d of a step, and all that acts on the
    state is linear.

    State: s = re + i im, blocks re and im, each n k, the k states of a channel side by side. W (n,
    input_size) ~ N(0, 1 / input_size). A = -exp(log_decay) + i frequency, each (n k); d = exp(log_step) (n);
    C = C_re + i C_im, each (n k) ~ N(0, 1 / 2); D (n) ~ N(0, 1). B of the paper is 1, as only products of B
    and C matter.

    A starts with the rates of `recurrent_init`, and d log-uniform between step_min and step_max. Both are
    those of the paper: A_k = -1/2 + i pi k, S4D-Lin, so that with d = 0.1 states from k = 10 on turn by more
    than half a circle in a step. Of eigenvalues in discrete time, such as those of a ring, the rates are the
    logarithms, and step_min = step_max = 1 has them as they are. J_t is the rotation and decay by exp(d A),
    one 2 x 2 block for each state, and the norm of its P(t, k) is sqrt(2) exp(d Re A (t - k)).

    Gu, Gupta, Goel & Re (2022), On the parameterization and initialization of diagonal state space models.
    """

    name = "s4d"

    input_size: PositiveInt = 1
    hidden_size: PositiveInt = 32
    states: PositiveInt = 4
    recurrent_init: Initializer = field(default_factory=HiPPO)
    step_min: PositiveFloat = 0.001
    step_max: PositiveFloat = 0.1

    def __post_init__(self):
        super().__post_init__()
        refuse_reversed(self, "step_min", "step_max")

    @property
    def blocks(self):
        return dict.fromkeys(("re", "im"), self.hidden_size * self.states)

    @property
    def jacobian_groups(self):
        return self.hidden_size * self.states

    @property
    def output_size(self):
        return self.hidden_size

    def init_params(self, rng):
        n, k = self.hidden_size, self.states
        rates = np.concatenate([self.recurrent_init.rates(rng, k) for _ in range(n)])
        if not (np.isfinite(rates) & (rates.real < 0)).all():
            raise InputError(
                f"S4D: recurrent_init={self.recurrent_init!r} should give eigenvalues with 0 < |lambda| < 1"
            )
        c = rng.standard_normal((2, n * k)) / np.sqrt(2)
        return {
            "W": normal(rng, n, self.input_size),
            "log_decay": np.log(-rates.real),
            "frequency": rates.imag,
            "log_step": rng.uniform(np.log(self.step_min), np.log(self.step_max), n),
            "C_re": c[0],
            "C_im": c[1],
            "D": rng.standard_normal(n),
        }

    def step(self, params, state, inputs, xp):
        decay, frequency = -xp.exp(params["log_decay"]), params["frequency"]
        d = xp.repeat(xp.exp(params["log_step"]), self.states)
        size, angle = xp.exp(d * decay), d * frequency
        a, b, half = size * xp.cos(angle), size * xp.sin(angle), xp.sin(0.5 * angle)
        # (a - 1 + i b) / A, where a - 1 would cancel in short steps.
        less = xp.expm1(d * decay) * xp.cos(angle) - 2 * half * half
        square = decay * decay + frequency * frequency
        hold_re, hold_im = (less * decay + b * frequency) / square, (b * decay - less * frequency) / square
        u = xp.repeat(inputs @ params["W"].T, self.states, axis=-1)
        re, im = self.split(state)
        return xp.concat((a * re - b * im + hold_re * u, a * im + b * re + hold_im * u), axis=-1)

    def output(self, params, state, inputs, xp):
        re, im = self.split(state)
        each = 2 * (params["C_re"] * re - params["C_im"] * im)
        each = xp.reshape(each, (*each.shape[:-1], self.hidden_size, self.states))
        return xp.sum(each, axis=-1) + params["D"] * (inputs @ params["W"].T)
