"""How a run is cut into blocks: decided by the problem alone, never by the machine.

So the numbers, to the last bit, do not depend on cores or threads.
"""

from __future__ import annotations

from dataclasses import dataclass

from gradsim.contracts.problem import Problem
from gradsim.engine.jacobians import SMALL

_WRITTEN_BYTES = 8 * 2**20
"""A chunk of written products: small beside the triangle t >= k, so that few of its entries are empty."""

_NORM_BYTES = 16 * 2**20
"""A chunk of written norms."""

_JOBS = 16
"""Into how many jobs the products are cut at least, where there are so many tiles: for as many threads."""

_HALVED_BYTES = 2**28
"""The norms of all pairs of one batch element, up to which they are made by halving."""

_CUMULATED_BYTES = 2**26
"""Cumulative products of all steps that are kept at one time, for as many batch elements."""

_SQUARES_BYTES = 2**25
"""Squares of norms that are kept at one time, for as many batch elements, beyond those of a job."""

PANEL = 64
"""Times whose pairs are made together from cumulative products."""

TOGETHER = 8
"""Batch elements whose norms are written together: a cache line."""

_CHAIN_BYTES = 2**20
"""Products to one time that are multiplied together: they and what is made of them stay in cache."""

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
    sources = min(max(4, _TILE_BYTES // one), most)
    batch = min(max(1, _TILE_BYTES // (one * sources)), problem.batch)
    return sources, batch


def job_shape(problem: Problem) -> tuple[int, int]:
    """Sources and batch elements that one job multiplies and writes: whole tiles."""
    sizes = problem.sizes()
    sources, batch = tile_shape(problem)
    across, down = -(-sizes["source"] // sources), -(-problem.batch // batch)
    each = max(1, across * down // _JOBS)
    rows = sizes[next(d for d in problem.pair_dims if d != "source")]
    room = max(1, _NORM_BYTES // (8 * rows * sources * batch))
    across = min(across, each, room)
    down = max(1, min(down, each // across, room // across))
    return sources * across, batch * down


def halves(problem: Problem) -> int:
    """How many batch elements at a time have their norms made by halving; 0 where tiles are better.

    Halving makes the norms of all pairs, and holds those of a batch element in memory.
    """
    p = problem
    if not p.pairs.every or (p.steps + 1) ** 2 * 8 > _HALVED_BYTES:
        return 0
    # A quarter of the batch at most, so that there is work for some threads.
    chain = p.steps * p.groups * p.block**2 * p.dtype.itemsize
    return min(max(1, _CHAIN_BYTES // chain), max(1, p.batch // 4))


def joining_bytes(problem: Problem, jobs: int) -> int:
    """What it takes at most to make norms by halving: what each job has, and the squares of all pairs."""
    p = problem
    # In float64: products after and before and their Gram matrices, and what is made on the way.
    chain = 26 * p.steps * p.groups * p.block**2
    pairs = (p.steps + 1) ** 2
    kept = max(joined_together(p.steps + 1, p.batch, halves(p)), jobs * halves(p))
    return jobs * halves(p) * (chain + 20 * pairs) + 12 * kept * pairs


def joined_together(times: int, batch: int, least: int) -> int:
    """Of how many batch elements squares of all norms are kept at one time."""
    return min(batch, max(least, _SQUARES_BYTES // (12 * times**2)))


def cumulated(steps: int, batch: int, groups: int, least: int) -> int:
    """Of how many batch elements cumulative products are kept at one time."""
    return min(batch, max(least, _CUMULATED_BYTES // _cumulated_bytes(steps, groups)))


def _cumulated_bytes(steps: int, groups: int) -> int:
    """What they take of one: a size, its inverse and an exponent each."""
    return 24 * (steps + 1) * groups


def cumulating_bytes(problem: Problem, jobs: int) -> int:
    """What it takes to make norms from cumulative products: these, and the pairs that each job has."""
    p = problem
    kept = cumulated(p.steps, p.batch, p.groups, halves(p)) * _cumulated_bytes(p.steps, p.groups)
    return kept + jobs * (p.steps + 1) * (12 * PANEL * min(p.batch, TOGETHER) + 16 * p.groups)


def parts(whole: slice, length: int) -> list[slice]:
    """Pieces of this length that make up a slice."""
    return [slice(i, min(i + length, whole.stop)) for i in range(whole.start, whole.stop, length)]


def cut(tile: Tile, shape: tuple[int, int]) -> list[Tile]:
    """The smaller tiles of this shape that make up a tile, earliest and so longest sources first."""
    return [Tile(s, b) for s in parts(tile.sources, shape[0]) for b in parts(tile.batch, shape[1])]


def whole(problem: Problem) -> Tile:
    """All sources and batch elements."""
    return Tile(slice(0, problem.sizes()["source"]), slice(0, problem.batch))


def time_chunk(problem: Problem) -> int:
    """Times that one tile fills before it is written: full products need it short."""
    sources, batch = tile_shape(problem)
    one = sources * batch * problem.cell.state_size * problem.block * problem.dtype.itemsize
    return min(max(1, _WRITTEN_BYTES // one), problem.sizes()[problem.pair_dims[0]])
