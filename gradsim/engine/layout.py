"""How a run is cut into blocks: decided by the problem alone, never by the machine.

So the numbers, to the last bit, do not depend on cores or threads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from gradsim.engine import backward
from gradsim.engine.jacobians import SMALL
from gradsim.engine.plan import Plan
from gradsim.recorder import Contributions, Jacobians, LossRows, Problem, ProductNorms, Products

_BLOCK_BYTES = 32 * 2**20
"""Step Jacobians made in one vectorised call; a chunk of written products."""

_BOARD_BYTES = 16 * 2**20
"""A chunk of written norms."""

_BOARDS = 16
"""Into how many boards a run is cut at least, where it has so many tiles: work for as many threads."""

_TILE_BYTES = 2**19
"""Products of a tile: they and their double stay in the second-level cache."""


@dataclass(frozen=True)
class Tile:
    """Sources `sources` (positions in the chosen ones) of batch elements `batch`."""

    sources: slice
    batch: slice


def tile_shape(problem: Problem) -> tuple[int, int]:
    """Sources and batch elements of a tile."""
    one = problem.groups * problem.block**2 * problem.dtype.itemsize
    most = 256 if problem.block <= SMALL else 64
    sources = int(np.clip(_TILE_BYTES // one, 4, most))
    batch = int(np.clip(_TILE_BYTES // (one * sources), 1, problem.batch))
    return sources, batch


def board_shape(problem: Problem) -> tuple[int, int]:
    """Sources and batch elements of a board, whole tiles: what is multiplied and written by one job."""
    sizes = problem.sizes()
    sources, batch = tile_shape(problem)
    across, down = -(-sizes["source"] // sources), -(-problem.batch // batch)
    each = max(1, across * down // _BOARDS)
    rows = sizes[next(d for d in problem.pair_dims if d != "source")]
    room = max(1, _BOARD_BYTES // (8 * rows * sources * batch))
    across = min(across, each, room)
    down = max(1, min(down, each // across, room // across))
    return sources * across, batch * down


def cut(area: Tile, shape: tuple[int, int]) -> list[Tile]:
    """The tiles of this shape that make up an area, earliest and so longest sources first."""
    return [
        Tile(slice(k, min(k + shape[0], area.sources.stop)), slice(b, min(b + shape[1], area.batch.stop)))
        for k in range(area.sources.start, area.sources.stop, shape[0])
        for b in range(area.batch.start, area.batch.stop, shape[1])
    ]


def whole(problem: Problem) -> Tile:
    """All sources and batch elements."""
    return Tile(slice(0, problem.sizes()["source"]), slice(0, problem.batch))


def block_length(problem: Problem) -> int:
    """Steps whose Jacobians are made in one call."""
    one = problem.batch * problem.cell.state_size * problem.block * problem.dtype.itemsize
    return int(np.clip(_BLOCK_BYTES // one, 1, problem.steps))


def time_chunk(problem: Problem) -> int:
    """Times that one tile fills before it is written: full products need it short."""
    sources, batch = tile_shape(problem)
    one = sources * batch * problem.cell.state_size * problem.block * problem.dtype.itemsize
    return int(np.clip(_BLOCK_BYTES // one, 1, problem.sizes()[problem.pair_dims[0]]))


def chunks(plan: Plan) -> dict[str, dict[str, int]]:
    """The chunks of each variable: what its stage fills in one block is a union of whole chunks."""
    p = plan.problem
    sources, batch = tile_shape(p)
    in_time = {} if p.pair_dims[0] == "source" else {p.pair_dims[0]: time_chunk(p)}
    every_pair = {d: p.sizes()[d] for d in p.pair_dims}
    board_sources, board_batch = board_shape(p)
    by_stream: dict[type, dict[str, int]] = {
        Products: {"source": sources, "batch": batch, "lag": p.lags + 1, **in_time},
        ProductNorms: {**every_pair, "source": board_sources, "batch": board_batch},
        LossRows: {"batch": 1},
        Jacobians: {"step": block_length(p)},
        Contributions: {"step": backward.contribution_length(p.param_shapes, p.dtype)},
    }
    return {v.name: by_stream.get(r.stream, {}) for r, v in plan.variables()}
