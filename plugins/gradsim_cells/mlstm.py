"""The matrix memory of the extended LSTM."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from gradsim import Weighted
from gradsim.types import PositiveFloat, PositiveInt
from gradsim_cells.algebra import affine, capped, normal, sigmoid, softplus


@dataclass(frozen=True, eq=False)
class MLSTM(Weighted):
    """C_t = f C_{t-1} + i v k^T and n_t = f n_{t-1} + i k, read as o * C_t q / max(|n_t . q|, 1).

    q = W_q x_t + b_q, k = (W_k x_t + b_k) / sqrt(key_size) and v = W_v x_t + b_v; i = exp(a_i), and f and o
    are sigmoid(.), of w x_t + b, where i and f are one number each; with a `soft_cap` those of
    cap tanh(. / cap).

    State: blocks R = C / N (hidden_size * key_size: entry (row, column) lies at column * hidden_size + row),
    r = n / N (key_size) and l = log N (1), of all that was taken in, N_t = f N_{t-1} + i:

        l_t = log(f exp(l_{t-1}) + i),  R_t = R_{t-1} + s (v k^T - R_{t-1}),  r_t = r_{t-1} + s (k - r_{t-1})

    with the share s = exp(a_i - l_t): no gate overflows, however large. The paper takes a stabiliser out in
    the same place, of which what is read does not depend either: R e^-u, r e^-u and l + u are the same for
    any u. |n . q| is compared with 1 before anything is taken out, with exp(-m) in the authors' code.

    W_q, W_k (key_size, input_size), W_v, W_o (hidden_size, input_size), W_i, W_f (1, input_size)
    ~ N(0, 1 / input_size). The biases of the keys and queries are N(0, 1), b_f = forget_bias, the others 0.

    There is no weight from the state. J_t is 1 - s times the identity but for the column of l, which has
    -s (1 - s) (v k^T - R_{t-1}) and the same of r. The product of all 1 - s on the way is that of all f,
    times N_k / N_t. More heads are cells of their own side by side.

    Beck et al. (2024), xLSTM: extended long short-term memory, section 2.3, eq. 19-27.
    """

    name = "mlstm"

    keeps = ("forget",)

    key_size: PositiveInt = 4
    forget_bias: float = 1.0
    soft_cap: PositiveFloat | None = field(default=None, kw_only=True)

    @property
    def blocks(self):
        return {"R": self.hidden_size * self.key_size, "r": self.key_size, "l": 1}

    @property
    def gates(self):
        return dict.fromkeys(("W_f", "b_f"), self.keeps)

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
        k = k * self.key_size**-0.5
        taken = k[..., None] * v[..., None, :]
        taken = xp.reshape(taken, (*taken.shape[:-2], self.hidden_size * self.key_size))
        means, old = state[..., :-1], state[..., -1:] - softplus(-f, xp)
        new = xp.logaddexp(old, i)
        means = xp.exp(old - new) * means + xp.exp(i - new) * xp.concat((taken, k), axis=-1)
        return xp.concat((means, new), axis=-1)

    def output(self, params, state, inputs, xp):
        memory, n, size = self.split(state)
        memory = xp.reshape(memory, (*memory.shape[:-1], self.key_size, self.hidden_size))
        q, o = affine(params, "q", inputs), sigmoid(affine(params, "o", inputs), xp)
        down = xp.where(size < 0, size, 0.0)  # of N or of 1, the smaller one is multiplied with
        like, least = xp.exp(down) * xp.abs(xp.sum(n * q, axis=-1))[..., None], xp.exp(down - size)
        read = xp.exp(down) * xp.sum(memory * q[..., None], axis=-2)
        return o * read / xp.where(like > least, like, least)
