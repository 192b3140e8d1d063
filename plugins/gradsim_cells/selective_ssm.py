"""The selective state space of Mamba: how fast it goes on, what it takes in and what is read depend on x."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted
from gradsim.contracts.validation import refuse_reversed
from gradsim.types import PositiveFloat, PositiveInt
from gradsim_cells.algebra import affine, before_softplus, normal, softplus


@dataclass(frozen=True, eq=False)
class SelectiveSSM(Weighted):
    """s_t = exp(d_t A) * s_{t-1} + d_t B_t u_t, read as y_t = sum of C_t s_t + D u_t.

    u = W x: the channels (hidden_size = n), each of which drives `states` = k real states. d_t =
    softplus(W_d x_t + b_d) (n) is the time step of each channel; B_t = W_B x_t and C_t = W_C x_t (k each) are
    shared by all channels.

    s: state (n k), the k states of a channel side by side. W, W_d (n, input_size), W_B, W_C (k, input_size)
    ~ N(0, 1 / input_size). A = -exp(log_A) (n k), which starts as -1 ... -k in each channel; b_d such that
    softplus(b_d) is log-uniform between step_min and step_max; D (n) = 1.

    J_t = diag(exp(d_t A)), whatever the state: an input shuts out the past by a large d_t, and keeps it by a
    small one. With inputs of the size of the state and W = 1 it is the S6 layer of the paper with a d_t of
    full rank. The paper has zero-order hold for B, (exp(d A) - 1) / A B, and its code the d B that is here.

    Gu & Dao (2023), Mamba: linear-time sequence modeling with selective state spaces, algorithm 2.
    """

    name = "selective_ssm"

    states: PositiveInt = 4
    step_min: PositiveFloat = 0.001
    step_max: PositiveFloat = 0.1

    def __post_init__(self):
        super().__post_init__()
        refuse_reversed(self, "step_min", "step_max")

    @property
    def blocks(self):
        return {"s": self.hidden_size * self.states}

    @property
    def jacobian_groups(self):
        return self.hidden_size * self.states

    @property
    def output_size(self):
        return self.hidden_size

    def init_params(self, rng):
        n, k = self.hidden_size, self.states
        rows = {"W": n, "W_d": n, "W_B": k, "W_C": k}
        step = np.exp(rng.uniform(np.log(self.step_min), np.log(self.step_max), n))
        return {
            **{name: normal(rng, count, self.input_size) for name, count in rows.items()},
            "b_d": before_softplus(step),
            "log_A": np.log(np.tile(np.arange(1.0, k + 1), n)),
            "D": np.ones(n),
        }

    def step(self, params, state, inputs, xp):
        d = softplus(affine(params, "d", inputs), xp)
        taken = (d * (inputs @ params["W"].T))[..., None] * (inputs @ params["W_B"].T)[..., None, :]
        kept = xp.exp(xp.repeat(d, self.states, axis=-1) * -xp.exp(params["log_A"]))
        return kept * state + xp.reshape(taken, state.shape)

    def output(self, params, state, inputs, xp):
        each = xp.reshape(state, (*state.shape[:-1], self.hidden_size, self.states))
        read = inputs @ params["W_C"].T
        return xp.sum(each * read[..., None, :], axis=-1) + params["D"] * (inputs @ params["W"].T)
