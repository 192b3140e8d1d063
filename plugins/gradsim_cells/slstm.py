"""The scalar memory of the extended LSTM, with exponential gates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from gradsim import Weighted, through
from gradsim.errors import InputError
from gradsim.types import PositiveFloat, PositiveInt
from gradsim_cells.algebra import capped, normal, sigmoid, softplus

_EMPTY = -50.0
"""log n of a memory that holds nothing: n_0 is 0 to rounding beside any i of more than about e^-13."""


@dataclass(frozen=True, eq=False)
class SLSTM(Weighted):
    """h_t = o * c_t / n_t, with c_t = f * c_{t-1} + i * z and n_t = f * n_{t-1} + i.

    i = exp(a_i), f = sigmoid(a_f) or exp(a_f) as `forget` says, z = tanh(a_z), o = sigmoid(a_o), of
    a = W x_t + U h_{t-1} + b; with a `soft_cap` the first two are those of cap tanh(a / cap). The state is
    h, r = c / n and l = log n, each hidden_size = n:

        l_t = log(f exp(l_{t-1}) + i),  r_t = r_{t-1} + exp(a_i - l_t) (z - r_{t-1}),  h_t = o * r_t

    which is the same h: a mean of all that was taken in, and how much that was. The paper takes a stabiliser
    m out of both c and n, on which h does not depend, and its states c e^-s, n e^-s, m + s are the same for
    any s. Here all of n is taken out, which overflows as little, and no direction of the state is idle.
    Before the first step the memory is empty.

    Rows of W (4n, input_size), U and b (4n) are in the order i, f, z, o. Units j, j + heads, j + 2 heads ...
    are a head, and see no others: U (4n, n / heads) has their weights. W ~ N(0, 1 / input_size),
    U ~ N(0, heads / n), b = 0 except b_f = forget_bias. J_t has a dense block for each head.

    Beck et al. (2024), xLSTM: extended long short-term memory, section 2.2, with the stabiliser of eq. 15-17.
    """

    name = "slstm"

    paths = ("input", "forget", "candidate", "output")
    keeps = ("forget",)  # whatever is admitted, all is divided by

    heads: PositiveInt = 1
    forget: Literal["sigmoid", "exp"] = "sigmoid"
    forget_bias: float = 1.0
    soft_cap: PositiveFloat | None = field(default=None, kw_only=True)

    def __post_init__(self):
        super().__post_init__()
        if self.hidden_size % self.heads:
            raise InputError(
                f"SLSTM: heads={self.heads} should divide hidden_size={self.hidden_size}: all have one size"
            )

    @property
    def blocks(self):
        return dict.fromkeys(("h", "r", "l"), self.hidden_size)

    @property
    def jacobian_groups(self):
        return self.heads

    @property
    def recurrent_weights(self):
        return ("U",) if self.heads == 1 else ()

    @property
    def gates(self):
        return dict.fromkeys(("W", "U", "b"), self.paths)

    def initial_state(self):
        return np.repeat([0.0, 0.0, _EMPTY], self.hidden_size)

    def init_params(self, rng):
        n = self.hidden_size
        return {
            "W": normal(rng, 4 * n, self.input_size),
            "U": normal(rng, 4 * n, n // self.heads),
            "b": np.repeat([0.0, self.forget_bias, 0.0, 0.0], n),
        }

    def parts_of(self, name, rows):
        """Each head has weights of its own from the state."""
        return super().parts_of(name, rows) * (self.heads if name == "U" else 1)

    def started(self, params, rng, start):
        """With the rows of a gate by unit, where they are drawn head by head."""
        found, n = super().started(params, rng, start), self.hidden_size
        if start.recurrent_init is None:
            return found
        by_head = found["U"].reshape(4, self.heads, n // self.heads, -1)
        return found | {"U": by_head.swapaxes(1, 2).reshape(4 * n, -1)}

    def _recurrent(self, u, h, xp):
        """U h, each head by itself."""
        if self.heads == 1:
            return h @ u.T
        size, lead = self.hidden_size // self.heads, h.shape[:-1]
        by_head = xp.permute_dims(xp.reshape(u, (4, size, self.heads, size)), (2, 3, 0, 1))
        by_head = xp.reshape(by_head, (self.heads, size, 4 * size))
        h = xp.moveaxis(xp.reshape(h, (*lead, size, self.heads)), -1, -2)[..., None, :]
        found = xp.moveaxis(xp.reshape(h @ by_head, (*lead, self.heads, 4 * size)), -1, -2)
        return xp.reshape(found, (*lead, 4 * self.hidden_size))

    def step(self, params, state, inputs, xp):
        n = self.hidden_size
        h, r, size = self.split(state)
        a = inputs @ params["W"].T + params["b"] + self._recurrent(params["U"], h, xp)
        i, f, z, o = (a[..., j * n : (j + 1) * n] for j in range(4))
        i, f = capped(i, self.soft_cap, xp), capped(f, self.soft_cap, xp)
        if self.forget == "sigmoid":
            f = -softplus(-f, xp)
        i, f = through(i, "input"), through(f, "forget")
        z, o = through(xp.tanh(z), "candidate"), through(sigmoid(o, xp), "output")
        size = xp.logaddexp(f + size, i)
        r = r + xp.exp(i - size) * (z - r)
        return xp.concat((o * r, r, size), axis=-1)
