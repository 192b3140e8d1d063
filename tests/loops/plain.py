"""Cells as plain functions of arrays, and their derivatives by complex steps; nothing of gradsim is used.

A complex step gives the derivative of an analytic function to the last digit: f'(x) = Im f(x + ih) / h, and
no difference of near numbers is taken. So steps are written with what NumPy does to complex numbers, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

TINY = 1e-30


def sigmoid(a):
    return (1 + np.tanh(a / 2)) / 2


def relu(a):
    return np.where(a.real > 0, a, 0)


ACTIVATIONS = {"tanh": np.tanh, "relu": relu, "logistic": sigmoid, "linear": lambda a: a}


@dataclass(frozen=True)
class Plain:
    """A cell: ``step(params, state, inputs, data)``, and what a readout sees of the state after it.

    `groups` is g, `layers` and `derived` the numbers of wrappers of either kind around the innermost cell, by
    which what they add is named. `fixed` parameters are not trained. A `smooth` step has second derivatives
    everywhere. `paths` are those that go `via` something, in the order in which they are opened.
    """

    size: int
    step: Callable
    seen: Callable
    groups: int = 1
    layers: int = 0
    derived: int = 0
    fixed: tuple[str, ...] = ()
    smooth: bool = True
    paths: tuple[str, ...] = ()
    first: np.ndarray | None = field(default=None)

    def start(self):
        return np.zeros(self.size) if self.first is None else self.first


def via(data, path, value):
    """What a path goes through: noted, and a constant where the path is closed."""
    data.get("noted", {}).setdefault(path, []).append(value)
    return value.real if path in data.get("closed", ()) else value


def block(start, stop):
    """A readout that sees these components of the state."""
    return lambda p, s, x: s[..., start:stop]


# Cells that ship with gradsim, from the equations in their docstrings.


def elman(n, activation):
    def step(p, s, x, data):
        return ACTIVATIONS[activation](s @ p["U"].T + x @ p["W"].T + p.get("b", 0))

    return Plain(n, step, block(0, n), smooth=activation != "relu")


def lstm(n):
    def step(p, s, x, data):
        h, c = s[..., :n], s[..., n:]
        a = x @ p["W"].T + h @ p["U"].T + p["b"]
        i, f, g, o = (a[..., k * n : (k + 1) * n] for k in range(4))
        i, f = via(data, "input", sigmoid(i)), via(data, "forget", sigmoid(f))
        g, o = via(data, "candidate", np.tanh(g)), via(data, "output", sigmoid(o))
        c = f * c + i * g
        return np.concatenate([o * np.tanh(c), c], axis=-1)

    return Plain(2 * n, step, block(0, n), paths=("input", "forget", "candidate", "output"))


def gru(n, reset_after):
    def step(p, s, x, data):
        (w_r, w_z, w_n), (u_r, u_z, u_n) = np.split(p["W"], 3), np.split(p["U"], 3)
        (b_r, b_z, b_n), (c_r, c_z, c_n) = np.split(p["b"], 3), np.split(p["c"], 3)
        r = via(data, "reset", sigmoid(x @ w_r.T + b_r + s @ u_r.T + c_r))
        z = via(data, "update", sigmoid(x @ w_z.T + b_z + s @ u_z.T + c_z))
        past = r * (s @ u_n.T + c_n) if reset_after else (r * s) @ u_n.T + c_n
        return z * s + (1 - z) * via(data, "candidate", np.tanh(x @ w_n.T + b_n + past))

    return Plain(n, step, block(0, n), paths=("update", "candidate", "reset"))


def min_gru(n):
    def step(p, s, x, data):
        a = x @ p["W"].T + p["b"]
        z = via(data, "update", sigmoid(a[..., :n]))
        return (1 - z) * s + z * via(data, "candidate", a[..., n:])

    return Plain(n, step, block(0, n), groups=n, paths=("update", "candidate"))


def lru(n):
    def step(p, s, x, data):
        re, im = s[..., :n], s[..., n:]
        size, phase = np.exp(-np.exp(p["nu"])), np.exp(p["theta"])
        a, b, gamma = size * np.cos(phase), size * np.sin(phase), np.exp(p["log_gamma"])
        new_re = a * re - b * im + gamma * (x @ p["W_re"].T)
        return np.concatenate([new_re, b * re + a * im + gamma * (x @ p["W_im"].T)], axis=-1)

    return Plain(2 * n, step, block(0, 2 * n), groups=n)


def stack(cells):
    """Layers; each sees what the one below has just become."""
    ends = np.cumsum([0, *(c.size for c in cells)])

    def own(p, i):
        return {n.removeprefix(f"layer{i}_"): v for n, v in p.items() if n.startswith(f"layer{i}_")}

    def step(p, s, x, data):
        new = []
        for i, cell in enumerate(cells):
            new.append(cell.step(own(p, i), s[..., ends[i] : ends[i + 1]], x, data))
            x = cell.seen(own(p, i), new[-1], x)
        return np.concatenate(new, axis=-1)

    def seen(p, s, x):
        for i, cell in enumerate(cells):
            x = cell.seen(own(p, i), s[..., ends[i] : ends[i + 1]], x)
        return x

    first = np.concatenate([c.start() for c in cells])
    paths = tuple(dict.fromkeys(path for c in cells for path in c.paths))
    return Plain(int(ends[-1]), step, seen, smooth=all(c.smooth for c in cells), paths=paths, first=first)


# Derivatives.


def _bumped(values, index):
    bumped = values.astype(complex)
    bumped[index] += 1j * TINY
    return bumped


def by_state(function, states):
    """Derivative (..., out, m) of function(states) (..., out) by states (..., m)."""
    columns = [function(_bumped(states, (..., j))).imag / TINY for j in range(states.shape[-1])]
    return np.stack(columns, axis=-1)


def by_params(function, params):
    """{name: derivative (..., out, *shape)} of function(params) (..., out)."""
    found = {}
    for name, value in params.items():
        bumps = ({name: _bumped(value, index)} for index in np.ndindex(value.shape))
        parts = [np.imag(function(params | bump)) / TINY for bump in bumps]
        found[name] = np.stack(parts, axis=-1).reshape(*parts[0].shape, *value.shape)
    return found
