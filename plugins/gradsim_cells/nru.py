"""The non-saturating recurrent unit."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.errors import InputError
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal


@dataclass(frozen=True, eq=False)
class NRU(Weighted):
    """h_t = relu(W x_t + U h_{t-1} + V m_{t-1} + b) and m_t = m_{t-1} + mean_i (alpha_i v_i - beta_i e_i).

    Each of the heads i writes along v_i with strength alpha_i and erases along e_i with strength beta_i,
    vectors and numbers that are made of a = A x_t + B h_t + C m_{t-1} + d. alpha = relu(.) and beta = relu(.)
    of its first 2 heads numbers; the others are p and q (r each) for writing and then for erasing, and all v
    are the entries of relu(p q^T), in rows of the size of m, each divided by its 5-norm.

    State: blocks h (hidden_size = n) and m (memory_size). x: input. r^2 = heads memory_size has to be a
    square number. W (n, input_size), U (n, n), V (n, memory_size), b (n); A, B, C and d with
    2 heads + 4 r rows. W, U, V side by side ~ N(0, 1 / (3 columns)), and so A, B, C, as large as PyTorch's
    linear layers start; biases = 0.

    No activation saturates, and past the heads dm_t/dm_{t-1} = I: the memory does not decay. Nor is it
    bounded: through its own strengths it feeds itself, and over hundreds of steps it mostly grows from the
    start. The slope of relu at 0 is taken as 0, and where v = 0 it stays 0.

    Chandar, Sankar, Vorontsov, Kahou & Bengio (2019), Towards non-saturating recurrent units for modelling
    long-term dependencies. Sources differ: heads are added up, not averaged; they do not see x_t; they are
    without relu.
    """

    name = "nru"

    memory_size: PositiveInt = 16
    heads: PositiveInt = 4

    paths = ("write", "erase")
    recurrent_weights = ("U",)

    def __post_init__(self):
        super().__post_init__()
        if self._factor**2 != self.heads * self.memory_size:
            raise InputError(
                f"NRU: heads * memory_size should be a square number, such as 4 * 16 "
                f"(got {self.heads} * {self.memory_size})"
            )

    @property
    def _factor(self):
        return math.isqrt(self.heads * self.memory_size)

    @property
    def blocks(self):
        return {"h": self.hidden_size, "m": self.memory_size}

    def init_params(self, rng):
        n, rows = self.hidden_size, 2 * self.heads + 4 * self._factor
        columns = np.cumsum([self.input_size, n, self.memory_size])
        (w, u, v), heads = (
            np.split(normal(rng, r, columns[-1], 3**-0.5), columns[:-1], axis=1) for r in (n, rows)
        )
        return {"W": w, "U": u, "V": v, "b": np.zeros(n)} | dict(
            zip("ABCd", (*heads, np.zeros(rows)), strict=True)
        )

    def step(self, params, state, inputs, xp):
        h, m = self.split(state)
        sums = inputs @ params["W"].T + h @ params["U"].T + m @ params["V"].T + params["b"]
        h = xp.where(sums > 0, sums, 0.0)
        a = inputs @ params["A"].T + h @ params["B"].T + m @ params["C"].T + params["d"]
        k, r = self.heads, self._factor
        strengths, factors = a[..., : 2 * k], a[..., 2 * k :]
        strengths = xp.where(strengths > 0, strengths, 0.0)
        written = self._mean(strengths[..., :k], factors[..., : 2 * r], xp)
        erased = self._mean(strengths[..., k:], factors[..., 2 * r :], xp)
        return xp.concat((h, m + through(written, "write") - through(erased, "erase")), axis=-1)

    def _mean(self, strengths, factors, xp):
        """Over the heads, of strengths (..., heads) times the directions that factors (..., 2 r) make."""
        r, shape = self._factor, (*strengths.shape, self.memory_size)
        products = xp.reshape(factors[..., :r, None] * factors[..., None, r:], shape)
        v = xp.where(products > 0, products, 0.0)
        largest = xp.max(v, axis=-1, keepdims=True)
        some = largest > 0
        v = v / xp.where(some, largest, 1.0)  # so that a fifth power neither underflows nor overflows
        size = xp.where(some, xp.sum(v**5, axis=-1, keepdims=True), 1.0) ** 0.2
        return xp.mean(strengths[..., None] * (v / size), axis=-2)
