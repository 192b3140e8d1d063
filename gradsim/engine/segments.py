"""How a run is cut along time: by the problem alone, so that no budget or machine changes a number."""

from __future__ import annotations

import math

import numpy as np

from gradsim.contracts.problem import Problem

_STATE_BYTES = 4 * 2**20
_CONTRIBUTION_BYTES = 16 * 2**20
_JACOBIAN_BYTES = 8 * 2**20


def granule_length(problem: Problem) -> int:
    """Steps that are taken, recomputed and pulled back together."""
    p = problem
    state = p.batch * p.cell.state_size * p.dtype.itemsize
    contribution = sum(math.prod(shape) for shape in p.param_shapes.values()) * p.dtype.itemsize
    longest = min(_STATE_BYTES // state, _CONTRIBUTION_BYTES // max(1, contribution))
    return min(p.steps, int(np.clip(longest, 8, 256)))


def granules(problem: Problem) -> list[range]:
    """All steps 1..T, cut into granules."""
    return _cut(range(1, problem.steps + 1), granule_length(problem))


def jacobian_length(problem: Problem) -> int:
    """Steps whose Jacobians are made in one call, at most a granule."""
    p = problem
    one = p.batch * p.cell.state_size * p.block * p.dtype.itemsize
    return int(np.clip(_JACOBIAN_BYTES // one, 1, granule_length(p)))


def parts(granule: range, problem: Problem) -> list[range]:
    """A granule, cut into steps whose Jacobians are made in one call."""
    return _cut(granule, jacobian_length(problem))


def _cut(steps: range, length: int) -> list[range]:
    return [range(s, min(s + length, steps.stop)) for s in range(steps.start, steps.stop, length)]
