"""A memory that is read and written by content: a small neural Turing machine."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Weighted, through
from gradsim.types import PositiveInt
from gradsim_cells.algebra import normal, parts, sigmoid, softmax, softplus


@dataclass(frozen=True, eq=False)
class NTM(Weighted):
    """h_t = tanh(W x_t + U h_{t-1} + R r_{t-1} + b) and M_t = M_{t-1} * (1 - w_t e_t^T) + w_t a_t^T.

    r_t = M_t^T v_t is read from the memory, with v_t where to read and w_t where to write. By content they
    are softmax(beta cos(key, rows of M)), of M_t to read and of M_{t-1} to write. With ``addressing="full"``
    that is mixed with where the head was, g * content + (1 - g) * v_{t-1}; shifted by -1, 0 and 1 slots in a
    ring, with the weights softmax(.); and sharpened, to its power of 1 + log(1 + exp(.)) over the sum of
    these. The keys and what is added, a_t, are tanh(.) of h_t, what is erased and the gates g are sigmoid(.),
    and strengths are beta = log(1 + exp(.)).

    State: blocks h, of hidden_size = n, and memory, M (slots, width) row by row; with full addressing read
    and write, v and w (slots). x: input. W (n, input_size) ~ N(0, 1 / input_size), U (n, n) ~ N(0, 1 / n),
    R (n, width) ~ N(0, 1 / width), b (n) = 0. Rows of K (4 width, n) ~ N(0, 1 / n) and k (4 width) ~ N(0, 1)
    are in the order key to read, key to write, erase, add. Those of S ~ N(0, 1 / n) and s are in the order
    read, write, each with strength, gate, power and shifts by -1, 0, 1: S (12, n), or (2, n) by content; s is
    1 for strengths, and else 0. M_0 is drawn from N(0, 1), the same in every run: rows that are alike would
    stay so for ever. Heads start at the first slot. The output is h_t and r_t.

    Without what is written, dM_t/dM_{t-1} = I: the share of J_t that keeps what is known. Rows that are
    written to forget by 1 - w e.

    Graves, Wayne & Danihelka (2014), Neural Turing machines, eq. 2-9, with one head each to read and to
    write. The square of each norm in the cosine has 1e-6 added, that of a weight to be sharpened 1e-12.
    """

    name = "ntm"

    slots: PositiveInt = 8
    width: PositiveInt = 8
    addressing: Literal["full", "content"] = "full"

    recurrent_weights = ("U",)
    paths = ("write", "erase", "add", "read")  # what is read acts within all others

    @property
    def blocks(self):
        places = dict.fromkeys(("read", "write") if self._moves else (), self.slots)
        return {"h": self.hidden_size, "memory": self.slots * self.width} | places

    @property
    def _moves(self):
        return self.addressing == "full"

    @property
    def output_size(self):
        return self.hidden_size + self.width

    @property
    def gates(self):
        heads = dict.fromkeys(("K", "k"), ("read", "write", "erase", "add"))
        return heads | dict.fromkeys(("S", "s"), ("read", "write"))

    def initial_state(self):
        memory = np.random.default_rng(0).standard_normal(self.slots * self.width)
        places = [np.eye(self.slots)[0]] * 2 if self._moves else []
        return np.concatenate((np.zeros(self.hidden_size), memory, *places))

    def init_params(self, rng):
        n, width = self.hidden_size, self.width
        start = np.tile([1.0, 0, 0, 0, 0, 0] if self._moves else [1.0], 2)
        return {
            "W": normal(rng, n, self.input_size),
            "U": normal(rng, n, n),
            "R": normal(rng, n, width),
            "b": np.zeros(n),
            "K": normal(rng, 4 * width, n),
            "k": rng.standard_normal(4 * width),
            "S": normal(rng, len(start), n),
            "s": start,
        }

    def step(self, params, state, inputs, xp):
        h, memory, *places = self._parts(state, xp)
        read = through(self._read(params, h, memory, places, xp), "read")
        sums = inputs @ params["W"].T + h @ params["U"].T + read @ params["R"].T + params["b"]
        h = xp.tanh(sums)
        to_read, to_write, erased, added = parts(h @ params["K"].T + params["k"], self.width)
        writing = through(self._where(params, 1, to_write, h, memory, places, xp), "write")
        where, erased = writing[..., None], through(sigmoid(erased, xp), "erase")[..., None, :]
        added = through(xp.tanh(added), "add")[..., None, :]
        memory = memory * (1 - where * erased) + where * added
        if places:
            places = self._where(params, 0, to_read, h, memory, places, xp), writing
        return xp.concat((h, xp.reshape(memory, (*h.shape[:-1], -1)), *places), axis=-1)

    def output(self, params, state, inputs, xp):
        h, memory, *places = self._parts(state, xp)
        return xp.concat((h, self._read(params, h, memory, places, xp)), axis=-1)

    def _parts(self, state, xp):
        """The state: h, M (..., slots, width) and, with full addressing, where the heads are."""
        h, memory, *places = self.split(state)
        return h, xp.reshape(memory, (*h.shape[:-1], self.slots, self.width)), *places

    def _read(self, params, h, memory, places, xp):
        if places:
            where = places[0]
        else:
            key = h @ params["K"][: self.width, :].T + params["k"][: self.width]
            where = self._where(params, 0, key, h, memory, places, xp)
        return xp.sum(where[..., None] * memory, axis=-2)

    def _where(self, params, head, key, h, memory, places, xp):
        """The weights of the rows of the memory, (..., slots)."""
        key = xp.tanh(key)[..., None, :]
        sizes = xp.sum(key * key, axis=-1) + 1e-6, xp.sum(memory * memory, axis=-1) + 1e-6
        cosine = xp.sum(key * memory, axis=-1) / xp.sqrt(sizes[0] * sizes[1])
        count = 6 if self._moves else 1
        mine = slice(head * count, (head + 1) * count)
        sums = h @ params["S"][mine, :].T + params["s"][mine]
        content = softmax(softplus(sums[..., :1], xp) * cosine, xp)
        if not places:
            return content
        gate, shifts = sigmoid(sums[..., 1:2], xp), softmax(sums[..., 3:], xp)
        mixed = gate * content + (1 - gate) * places[head]
        back = xp.concat((mixed[..., 1:], mixed[..., :1]), axis=-1)
        on = xp.concat((mixed[..., -1:], mixed[..., :-1]), axis=-1)
        moved = shifts[..., :1] * back + shifts[..., 1:2] * mixed + shifts[..., 2:] * on
        power = 1 + softplus(sums[..., 2:3], xp)
        return softmax(0.5 * power * xp.log(moved * moved + 1e-12), xp)
