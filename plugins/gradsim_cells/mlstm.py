"""The matrix memory of the extended LSTM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradsim import Weighted
from gradsim.types import PositiveFloat, PositiveInt
from gradsim_cells.algebra import affine, capped, normal, sigmoid


@dataclass(frozen=True, eq=False)
class MLSTM(Weighted):
    """C_t = f C_{t-1} + i v k^T and n_t = f n_{t-1} + i k, read as o * C_t q / max(|n_t . q|, 1).

    q = W_q x_t + b_q, k = (W_k x_t + b_k) / sqrt(key_size) and v = W_v x_t + b_v; i = exp(.), f = sigmoid(.)
    and o = sigmoid(.) of w x_t + b, where i and f are one number each; with a `soft_cap` i and f are of
    cap tanh(. / cap).

    State: blocks C (hidden_size * key_size: entry (row, column) lies at column * hidden_size + row) and n
    (key_size). W_q, W_k (key_size, input_size), W_v, W_o (hidden_size, input_size), W_i, W_f (1, input_size)
    ~ N(0, 1 / input_size). The biases of the keys and queries are N(0, 1), b_f = forget_bias, the others 0.

    There is no weight from the state, and J_t = f_t I: P(t, k) is the product of all f on the way, times I.
    The paper takes a stabiliser m out of C and n, which no output depends on, but which would tie all
    components of the state together; they are as they are here, as i sees no state that could make it run
    away. exp overflows where its sum is above 88 in float32 and 709 in float64; with ``soft_cap=15``, as in
    Beck et al. (2025), xLSTM 7B, it cannot. |n . q| is compared with 1 before anything is taken out, with
    exp(-m) in the authors' code. More heads are cells of their own side by side.

    Beck et al. (2024), xLSTM: extended long short-term memory, section 2.3, eq. 19-27.
    """

    name = "mlstm"

    keeps = ("forget",)

    key_size: PositiveInt = 4
    forget_bias: float = 1.0
    soft_cap: PositiveFloat | None = field(default=None, kw_only=True)

    @property
    def blocks(self):
        return {"C": self.hidden_size * self.key_size, "n": self.key_size}

    @property
    def gates(self):
        return dict.fromkeys(("W_f", "b_f"), self.keeps)

    @property
    def jacobian_groups(self):
        return self.state_size

    @property
    def output_size(self):
        return self.hidden_size

    def init_params(self, rng):
        rows = {"q": self.key_size, "k": self.key_size, "v": self.hidden_size, "i": 1, "f": 1}
        rows["o"] = self.hidden_size
        params = {f"W_{name}": normal(rng, count, self.input_size) for name, count in rows.items()}
        params |= {f"b_{name}": np.zeros(count) for name, count in rows.items()}
        for name in ("b_q", "b_k"):
            params[name] = rng.standard_normal(self.key_size)
        return params | {"b_f": np.array([self.forget_bias])}

    def step(self, params, state, inputs, xp):
        k, v, i, f = (affine(params, name, inputs) for name in "kvif")
        i, f = capped(i, self.soft_cap, xp), capped(f, self.soft_cap, xp)
        f, i = sigmoid(f, xp), xp.exp(i)
        k = i * k * self.key_size**-0.5
        taken = k[..., None] * v[..., None, :]
        taken = xp.reshape(taken, (*taken.shape[:-2], self.hidden_size * self.key_size))
        return f * state + xp.concat((taken, k), axis=-1)

    def output(self, params, state, inputs, xp):
        memory, n = self.split(state)
        memory = xp.reshape(memory, (*memory.shape[:-1], self.key_size, self.hidden_size))
        q, o = affine(params, "q", inputs), sigmoid(affine(params, "o", inputs), xp)
        size = xp.abs(xp.sum(n * q, axis=-1))[..., None]
        return o * xp.sum(memory * q[..., None], axis=-2) / xp.where(size > 1, size, 1.0)
