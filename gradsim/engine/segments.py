"""How a run is cut along time: by the problem alone, so that no budget or machine changes a number."""

from __future__ import annotations

import math

from gradsim.contracts.problem import Problem

_STATE_BYTES = 4 * 2**20
"""States of a segment: what is read again on the way back should still be in cache."""

_CONTRIBUTION_BYTES = 64 * 2**20
"""Contributions of the steps of a segment, where they are recorded one by one."""

_JACOBIAN_BYTES = 8 * 2**20
"""Step Jacobians made in one vectorised call."""


def segment_length(problem: Problem) -> int:
    """Steps that are taken, recomputed and pulled back together."""
    p = problem
    state = p.batch * p.cell.state_size * p.dtype.itemsize
    contribution = sum(math.prod(shape) for shape in p.param_shapes.values()) * p.dtype.itemsize
    # At least 8 steps, which then share the calls and the snapshot that any segment costs.
    longest = min(_STATE_BYTES // state, _CONTRIBUTION_BYTES // max(1, contribution))
    return min(p.steps, max(8, longest), 1024)


def segments(problem: Problem) -> list[range]:
    """All steps 1..T, cut into segments."""
    return _cut(range(1, problem.steps + 1), segment_length(problem))


def jacobian_length(problem: Problem) -> int:
    """Steps whose Jacobians are made in one call, at most a segment."""
    p = problem
    one = p.batch * p.cell.state_size * p.block * p.dtype.itemsize
    return min(max(1, _JACOBIAN_BYTES // one), segment_length(p))


def jacobian_steps(segment: range, problem: Problem) -> list[range]:
    """A segment, cut into steps whose Jacobians are made in one call."""
    return _cut(segment, jacobian_length(problem))


def _cut(steps: range, length: int) -> list[range]:
    return [range(s, min(s + length, steps.stop)) for s in range(steps.start, steps.stop, length)]
