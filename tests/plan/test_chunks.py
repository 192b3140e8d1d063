"""How variables are cut into chunks."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.engine import layout
from gradsim.plan.chunks import open_bytes
from gradsim_cells import LRU, Elman

RECORD = ["state", "loss", "jacobian_product", "product_norm", "loss_adjoint_norm", "adjoint", "lyapunov"]


def plan_of(cell, steps=400, batch=9, **more):
    return gradsim.prepare(cell, np.zeros((steps, batch, 1)), record=RECORD, **more).plan


@pytest.mark.parametrize("cell", [Elman(1, 40), LRU(1, 30)], ids=lambda c: c.name)
@pytest.mark.parametrize("pairs", [{}, {"max_lag": 7}, {"times": (-1, 4)}], ids=str)
def test_chunks_are_parts_of_their_variables(cell, pairs):
    plan = plan_of(cell, pairs=Pairs(**pairs))
    sizes = plan.problem.sizes()
    for _, variable in plan.variables():
        cut = {d: n for d, n in plan.chunks()[variable.name].items() if d in variable.dims}
        assert all(n >= 1 for n in cut.values())
        for dim in ("time", "step"):
            assert cut.get(dim, 1) <= sizes[dim]


def test_a_job_writes_whole_chunks_of_products():
    plan = plan_of(Elman(1, 40))
    cut = plan.chunks()["jacobian_product"]
    sources, batch = layout.job_shape(plan.problem)
    assert (sources % cut["source"], batch % cut["batch"]) == (0, 0)


def test_products_are_cut_in_time_as_they_are_written():
    plan = plan_of(Elman(1, 40))
    assert plan.chunks()["jacobian_product"]["time"] == layout.time_chunk(plan.problem) < 401


@pytest.mark.parametrize("max_lag", [0, 7])
def test_products_of_all_lags_of_a_source_lie_in_one_chunk(max_lag):
    plan = plan_of(Elman(1, 40), pairs=Pairs(max_lag=max_lag))
    assert plan.chunks()["jacobian_product"]["lag"] == max_lag + 1


def test_only_what_goes_to_disk_waits_for_full_chunks():
    assert open_bytes(plan_of(Elman(1, 4))) == 0
    assert open_bytes(plan_of(Elman(1, 4), in_memory=False)) > 0
