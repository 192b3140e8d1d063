"""Penalties that are sums over steps, made of a few steps at a time so that their memory stays small."""

from __future__ import annotations

import numpy as np

from gradsim import Penalty
from gradsim.contracts.trajectory import step_rows

_BYTES = 2**20


def parts(trajectory, copies=1):
    """The trajectory in shorter ones, of which `copies` arrays like their states stay small."""
    room = max(1, _BYTES // (copies * trajectory.states[0].nbytes))
    steps = trajectory.steps
    for first in range(steps.start, steps.stop, room):
        yield trajectory[range(first, min(first + room, steps.stop))]


def over_steps(trajectory, of_part, copies=1):
    """The penalty that is the sum of `of_part` of such parts.

    It gives its value, and its derivatives with respect to the parameters and to the states before each step.
    """
    value, gradient, states = 0.0, {}, np.zeros_like(trajectory.states)
    for part in parts(trajectory, copies):
        more, by_params, by_states = of_part(part)
        value += float(more)
        gradient = {n: g + gradient.get(n, 0) for n, g in by_params.items()}
        states[step_rows(part.steps)] = by_states
    return Penalty(value, gradient, states)
