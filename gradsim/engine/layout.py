"""How a run is cut into blocks: decided by the problem alone, never by the machine."""

from __future__ import annotations

import numpy as np

from gradsim.engine import backward, products
from gradsim.engine.plan import Plan
from gradsim.recorder import Contributions, Jacobians, LossRows, Problem, Products

_BLOCK_BYTES = 32 * 2**20
"""Step Jacobians made in one vectorised call; a chunk of written products."""


def block_length(problem: Problem) -> int:
    """Steps whose Jacobians are made in one call."""
    one = problem.batch * problem.cell.state_size * problem.block * problem.dtype.itemsize
    return int(np.clip(_BLOCK_BYTES // one, 1, problem.steps))


def time_chunk(problem: Problem) -> int:
    """Times that one tile fills before it is written: full products need it short."""
    sources, batch = products.tile_shape(problem)
    one = sources * batch * problem.cell.state_size * problem.block * problem.dtype.itemsize
    return int(np.clip(_BLOCK_BYTES // one, 1, problem.sizes()[problem.pair_dims[0]]))


def chunks(plan: Plan) -> dict[str, dict[str, int]]:
    """The chunks of each variable: what its stage fills in one block is a union of whole chunks."""
    p = plan.problem
    sources, batch = products.tile_shape(p)
    by_stream: dict[type, dict[str, int]] = {
        Products: {
            "source": sources,
            "batch": batch,
            "lag": p.lags + 1,
            **({p.pair_dims[0]: time_chunk(p)} if p.pair_dims[0] != "source" else {}),
        },
        LossRows: {"batch": 1},
        Jacobians: {"step": block_length(p)},
        Contributions: {"step": backward.contribution_length(p.param_shapes, p.dtype)},
    }
    return {v.name: by_stream.get(r.stream, {}) for r, v in plan.variables()}
