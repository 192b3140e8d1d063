"""A memory that is read and written by content: a small neural Turing machine."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim import Weighted, through
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal, sigmoid, softmax


@dataclass(frozen=True, eq=False)
class NTM(Weighted):
    """h_t = tanh(W x_t + U h_{t-1} + R r_{t-1} + b) and M_t = M_{t-1} * (1 - w_t e_t^T) + w_t a_t^T.

    r_t = M_t^T v_t is read from the memory, with v_t where to read and w_t where to write: both are
    softmax(beta_t cos(key_t, rows of M)), of M_t to read and of M_{t-1} to write. The keys and what is added,
    a_t, are tanh(.) of h_t, what is erased is e_t = sigmoid(.) and strengths are beta_t = log(1 + exp(.)).

    State: blocks h, of hidden_size = n, and memory, M (slots, width) row by row. x: input. W (n, input_size)
    ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n), R (n, width) ~ N(0, 1 / width), b (n) = 0. Rows of
    K (4 width, n) ~ N(0, 1 / n) and k (4 width) ~ N(0, 1) are in the order key to read, key to write, erase,
    add; those of S (2, n) ~ N(0, 1 / n) and s (2) = 1, the strengths, read, write. M_0 is drawn from N(0, 1),
    the same in every run: rows that are alike would stay so for ever. The output is h_t and r_t.

    Without what is written, dM_t/dM_{t-1} = I: the share of J_t that keeps what is known. Rows that are
    written to forget by 1 - w e.

    Graves, Wayne & Danihelka (2014), Neural Turing machines, eq. 2-6, with one head each to read and to
    write. Addressing is by content only: the gate that goes back to where the head was, shifts and
    sharpening, eq. 7-9, are left out. The square of each norm in the cosine has 1e-6 added.
    """

    name = "ntm"

    slots: PositiveInt = 8
    width: PositiveInt = 8

    recurrent_weights = ("U",)
    paths = ("write", "erase", "add", "read")  # what is read acts within all others

    @property
    def blocks(self):
        return {"h": self.hidden_size, "memory": self.slots * self.width}

    @property
    def output_size(self):
        return self.hidden_size + self.width

    @property
    def gates(self):
        heads = dict.fromkeys(("K", "k"), ("read", "write", "erase", "add"))
        return heads | dict.fromkeys(("S", "s"), ("read", "write"))

    def initial_state(self):
        memory = np.random.default_rng(0).standard_normal(self.slots * self.width)
        return np.concatenate((np.zeros(self.hidden_size), memory))

    def init_params(self, rng):
        n, width = self.hidden_size, self.width
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, n),
            "R": normal(rng, n, width),
            "b": np.zeros(n),
            "K": normal(rng, 4 * width, n),
            "k": rng.standard_normal(4 * width),
            "S": normal(rng, 2, n),
            "s": np.ones(2),
        }

    def step(self, params, state, inputs, xp):
        h, memory = self._parts(state, xp)
        read = through(self._read(params, h, memory, xp), "read")
        sums = inputs @ params["W"].T + h @ params["U"].T + read @ params["R"].T + params["b"]
        h = xp.tanh(sums)
        _, key, erased, added = self._heads(params, h)
        where = through(self._where(params, 1, key, h, memory, xp), "write")[..., None]
        erased = through(sigmoid(erased, xp), "erase")[..., None, :]
        added = through(xp.tanh(added), "add")[..., None, :]
        memory = memory * (1 - where * erased) + where * added
        return xp.concat((h, xp.reshape(memory, (*h.shape[:-1], -1))), axis=-1)

    def output(self, params, state, inputs, xp):
        h, memory = self._parts(state, xp)
        return xp.concat((h, self._read(params, h, memory, xp)), axis=-1)

    def _parts(self, state, xp):
        """H and M (..., slots, width)."""
        h, memory = self.split(state)
        return h, xp.reshape(memory, (*h.shape[:-1], self.slots, self.width))

    def _heads(self, params, h):
        sums = h @ params["K"].T + params["k"]
        return (sums[..., i * self.width : (i + 1) * self.width] for i in range(4))

    def _read(self, params, h, memory, xp):
        key, *_ = self._heads(params, h)
        where = self._where(params, 0, key, h, memory, xp)
        return xp.sum(where[..., None] * memory, axis=-2)

    def _where(self, params, head, key, h, memory, xp):
        """The weights of the rows of the memory, (..., slots)."""
        key = xp.tanh(key)[..., None, :]
        sizes = xp.sum(key * key, axis=-1) + 1e-6, xp.sum(memory * memory, axis=-1) + 1e-6
        cosine = xp.sum(key * memory, axis=-1) / xp.sqrt(sizes[0] * sizes[1])
        strength = h @ params["S"][head : head + 1, :].T + params["s"][head : head + 1]
        return softmax(xp.logaddexp(strength, xp.zeros_like(strength)) * cosine, xp)
