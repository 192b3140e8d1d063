"""How a run is cut into blocks: every pair once, within the room of a cache, by the problem alone."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.engine import layout
from gradsim.engine.layout import Tile
from gradsim_cells import LRU, Elman

PROBLEMS = {
    "dense": (Elman(1, 24), 150, 7, Pairs()),
    "large": (Elman(1, 200), 30, 2, Pairs()),
    "small blocks": (LRU(1, 40), 300, 5, Pairs()),
    "one": (Elman(1, 1), 1, 1, Pairs()),
    "band": (Elman(1, 24), 150, 7, Pairs(max_lag=9)),
    "chosen": (Elman(1, 24), 150, 7, Pairs(times=(-1, 4), sources=(0, 3, 9))),
}


@pytest.fixture(params=PROBLEMS)
def problem(request):
    cell, steps, batch, pairs = PROBLEMS[request.param]
    inputs = np.zeros((steps, batch, 1))
    return gradsim.prepare(cell, inputs, pairs=pairs, record=["product_norm"]).plan.problem


@pytest.mark.parametrize("shape", [layout.tile_shape, layout.job_shape])
def test_every_source_of_every_batch_element_lies_in_one_tile(problem, shape):
    whole = layout.whole(problem)
    seen = np.zeros((problem.sizes()["source"], problem.batch), dtype=int)
    for tile in layout.cut(whole, shape(problem)):
        seen[tile.sources, tile.batch] += 1
    assert (seen == 1).all()


def test_jobs_are_whole_tiles(problem):
    tile, job = layout.tile_shape(problem), layout.job_shape(problem)
    assert all(j % t == 0 or j >= n for j, t, n in zip(job, tile, (0, problem.batch), strict=True))


def test_a_tile_fits_its_cache_unless_single_products_do_not(problem):
    sources, batch = layout.tile_shape(problem)
    one = problem.groups * problem.block**2 * problem.dtype.itemsize
    assert sources * batch * one <= layout._TILE_BYTES or (sources, batch) == (4, 1)


def test_a_chunk_of_times_is_at_least_one_and_at_most_all(problem):
    assert 1 <= layout.time_chunk(problem) <= problem.sizes()[problem.pair_dims[0]]


def test_only_all_pairs_are_halved(problem):
    assert (layout.halves(problem) > 0) == (problem.pairs == Pairs())


def test_areas_are_cut_where_they_end():
    tiles = layout.cut(Tile(slice(2, 7), slice(1, 3)), (3, 1))
    assert [(t.sources, t.batch) for t in tiles] == [
        (slice(2, 5), slice(1, 2)),
        (slice(2, 5), slice(2, 3)),
        (slice(5, 7), slice(1, 2)),
        (slice(5, 7), slice(2, 3)),
    ]
