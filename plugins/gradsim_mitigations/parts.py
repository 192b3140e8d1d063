"""A trajectory in parts, so that what penalties make of it stays small."""

from __future__ import annotations

_BYTES = 2**20


def parts(trajectory, copies=1):
    """The trajectory in shorter ones, of which `copies` arrays like their states stay small."""
    room = max(1, _BYTES // (copies * trajectory.states[0].nbytes))
    steps = trajectory.steps
    for first in range(steps.start, steps.stop, room):
        yield trajectory[range(first, min(first + room, steps.stop))]
