"""Cells with nothing but a step, written for gradsim, and the same as plain functions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from loops.plain import Plain, block, relu, sigmoid
from sru import SRU

from gradsim import Cell
from gradsim.contracts.derived import Derived


def weights(rng, rows, columns):
    return rng.standard_normal((rows, columns)) / np.sqrt(columns)


@dataclass(frozen=True, eq=False)
class Coupled(Cell):
    """Three blocks of different sizes, of which the last and the first are read, from a start of its own."""

    name = "loops_coupled"
    input_size: int = 1
    hidden_size: int = 2

    @property
    def blocks(self):
        return {"a": self.hidden_size, "n": 1, "h": self.hidden_size}

    @property
    def output_blocks(self):
        return ("h", "a")

    def initial_state(self):
        return np.concatenate((np.zeros(self.hidden_size), np.ones(1), np.full(self.hidden_size, 0.5)))

    def init_params(self, rng):
        n = self.hidden_size
        return {"W": weights(rng, 2 * n, self.input_size), "U": weights(rng, 2 * n, n), "g": np.array([0.3])}

    def step(self, params, state, inputs, xp):
        n = self.hidden_size
        a, scale, h = self.split(state)
        d = inputs @ params["W"].T + h @ params["U"].T
        scale = 0.9 * scale + params["g"] * xp.exp(-xp.sum(h * h, axis=-1, keepdims=True))
        a = xp.sin(d[..., :n]) + a / (1 + scale * scale)
        return xp.concat((a, scale, xp.tanh(d[..., n:] + a)), axis=-1)


def coupled(n):
    def step(p, s, x, data):
        a, scale, h = s[..., :n], s[..., n : n + 1], s[..., n + 1 :]
        d = x @ p["W"].T + h @ p["U"].T
        scale = 0.9 * scale + p["g"] * np.exp(-(h**2).sum(-1, keepdims=True))
        a = np.sin(d[..., :n]) + a / (1 + scale**2)
        return np.concatenate([a, scale, np.tanh(d[..., n:] + a)], axis=-1)

    def seen(p, s, x):
        return np.concatenate([s[..., n + 1 :], s[..., :n]], axis=-1)

    first = np.concatenate([np.zeros(n), np.ones(1), np.full(n, 0.5)])
    return Plain(2 * n + 1, step, seen, first=first)


@dataclass(frozen=True, eq=False)
class Clocked(Cell):
    """Half of the units are updated every second step; the weights of the inputs are not trained."""

    name = "loops_clocked"
    input_size: int = 1
    hidden_size: int = 3

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    @property
    def recurrent_weights(self):
        return ("U",)

    @property
    def fixed(self):
        return ("W",)

    def init_params(self, rng):
        n = self.hidden_size
        return {"U": weights(rng, n, n), "W": weights(rng, n, self.input_size)}

    def step(self, params, state, inputs, xp, *, step_index):
        period = xp.asarray([1 + i % 2 for i in range(self.hidden_size)])
        new = xp.tanh(state @ params["U"].T + inputs @ params["W"].T)
        return xp.where(step_index[..., None] % period == 0, new, state)


def clocked(n):
    def step(p, s, x, data):
        due = data["step_index"][..., None] % np.array([1 + i % 2 for i in range(n)]) == 0
        return np.where(due, np.tanh(s @ p["U"].T + x @ p["W"].T), s)

    return Plain(n, step, block(0, n), fixed=("W",))


@dataclass(frozen=True, eq=False)
class Noisy(Cell):
    """Rectified units that draw noise of their own; three groups of them do not see each other."""

    name = "loops_noisy"
    input_size: int = 1

    @property
    def blocks(self):
        return {"h": 3, "l": 3}

    @property
    def jacobian_groups(self):
        return 3

    def init_params(self, rng):
        return {"a": rng.uniform(0.2, 1.3, (4, 3)), "W": weights(rng, 6, self.input_size)}

    def draw(self, rng, steps, batch):
        return {"noise": 0.3 * rng.standard_normal((steps, batch, 6))}

    def step(self, params, state, inputs, xp, *, noise):
        h, low = self.split(state)
        d, a = inputs @ params["W"].T + noise, params["a"]
        new = xp.maximum(a[0] * h - a[1] * low + d[..., :3], 0.0)
        return xp.concat((new, xp.tanh(a[2] * h + a[3] * low + d[..., 3:])), axis=-1)


def noisy():
    def step(p, s, x, data):
        h, low = s[..., :3], s[..., 3:]
        d, a = x @ p["W"].T + data["noise"], p["a"]
        new = relu(a[0] * h - a[1] * low + d[..., :3])
        return np.concatenate([new, np.tanh(a[2] * h + a[3] * low + d[..., 3:])], axis=-1)

    return Plain(6, step, block(0, 3), groups=3, smooth=False)


def sru(n):
    def step(p, s, x, data):
        f = sigmoid(2 * (x @ p["W_f"].T + p["v"] * s + p["b_f"]))
        return f * s + (1 - f) * (x @ p["W"].T)

    def seen(p, s, x):
        r = sigmoid(2 * (x @ p["W_r"].T + p["b_r"]))
        return r * s + (1 - r) * x

    return Plain(n, step, seen, groups=n)


@dataclass(frozen=True, eq=False)
class Normed(Derived):
    """U over its Frobenius norm, times a scale that is trained."""

    name = "loops_normed"
    cell: Cell

    def own_params(self, rng):
        return {"scale": np.array([1.3])}

    def derive(self, own, inner, xp):
        return {"U": own["scale"] * inner["U"] / xp.sqrt(xp.sum(inner["U"] ** 2))}


def normed(cell):
    def made(p):
        inner = {n: v for n, v in p.items() if n != "loops_normed1_scale"}
        return inner | {"U": p["loops_normed1_scale"] * p["U"] / np.sqrt((p["U"] ** 2).sum())}

    return Plain(cell.size, lambda p, s, x, data: cell.step(made(p), s, x, data), cell.seen, derived=1)


__all__ = ["SRU", "Clocked", "Coupled", "Noisy", "Normed", "clocked", "coupled", "noisy", "normed", "sru"]
