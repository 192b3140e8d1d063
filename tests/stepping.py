"""Numbers to start single cells from, and steps that are taken one by one."""

from __future__ import annotations

import numpy as np


def sigmoid(a):
    return 1 / (1 + np.exp(-a))


def moved(cell, rng, size=0.3):
    """Parameters near those that it draws; what is told apart by its zeros is not zero."""
    return {n: p + size * rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}


def drawn(cell, rng, size=0.7):
    """Parameters none of which is zero, and a sequence."""
    return moved(cell, rng, size), rng.standard_normal((7, cell.input_size))


def taken(cell, params, xs, state=None):
    """The states, and what is read of each."""
    state, states, read = cell.initial_state() if state is None else state, [], []
    for x in xs:
        state = cell.step(params, state, x, np)
        states.append(state)
        read.append(cell.output(params, state, x, np))
    return np.stack(states), np.stack(read)


def seen(cell, params, xs, state=None):
    """What is read of each state, (steps, output)."""
    return taken(cell, params, xs, state)[1]
