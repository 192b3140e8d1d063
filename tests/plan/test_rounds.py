"""Rounds of products: everything once, in the room that there is."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.engine import layout
from gradsim.plan.rounds import jacobian_bytes, largest, rounds
from gradsim_cells import Elman
from gradsim_mitigations import JacobianPenalty, Truncate

STEPS, BATCH = 60, 5


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(layout, "_TILE_BYTES", 4000)
    monkeypatch.setattr(layout, "_JOBS", 100)


def needs_of(record, **more):
    return gradsim.prepare(Elman(1, 8), np.ones((STEPS, BATCH, 1)), record=record, **more).plan


@pytest.mark.parametrize("record", [["jacobian_product"], ["product_norm"], ["loss_adjoint_norm"]])
@pytest.mark.parametrize("pairs", [Pairs(), Pairs(max_lag=7), Pairs(sources=(3, 30, 31))])
@pytest.mark.parametrize("share", [0, 0.1, 0.5, 1])
def test_every_product_is_made_in_one_round_that_has_its_steps(small_tiles, record, pairs, share):
    needs = needs_of(record, pairs=pairs)
    problem = needs.problem
    everything = STEPS * BATCH * 8 * 8 * 8
    found = rounds(needs, share * everything)
    made = np.zeros((problem.sizes()["source"], BATCH), dtype=int)
    sources, ends = problem.pairs.resolved(STEPS)[1], problem.ends
    for one in found:
        made[one.tile.sources, one.tile.batch] += 1
        for source, end in zip(sources[one.tile.sources], ends[one.tile.sources], strict=True):
            assert set(range(source + 1, end + 1)) <= set(one.steps)
    assert (made == 1).all()
    if largest(problem, rounds(needs, 0)) <= share * everything:
        assert largest(problem, found) <= share * everything


def test_more_room_means_fewer_rounds(small_tiles):
    needs = needs_of(["jacobian_product"])
    counts = [len(rounds(needs, room)) for room in (0, 1e4, 3e4, 1e5, np.inf)]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > BATCH
    assert counts[-1] == 1
    assert jacobian_bytes(needs, np.inf) == STEPS * BATCH * 8 * 8 * 8


def test_one_round_has_all_steps_where_no_products_are_made(small_tiles):
    for record, mitigations in (
        (["state"], []),
        (["effective_gradient"], [JacobianPenalty()]),
        (["effective_gradient"], []),
    ):
        needs = needs_of(record, mitigations=mitigations)
        assert [one.steps for one in rounds(needs, 0)] == [range(1, STEPS + 1)]
    assert jacobian_bytes(needs_of(["state"]), 0) == 0


@pytest.mark.parametrize(
    ("record", "pairs", "count"),
    [
        (["product_norm", "jacobian_product"], Pairs(), 3),
        (["jacobian_product", "loss_adjoint_norm"], Pairs(sources=(4, 9, 30)), 3),
        (["product_norm"], Pairs(max_lag=5), 6),
        (["product_spectral_norm"], Pairs(lags=(2, 7)), 6),
    ],
    ids=["all", "sources", "band", "lags"],
)
def test_products_in_rounds_are_the_same_bits(monkeypatch, record, pairs, count):
    """Step Jacobians of a part of the batch, or of the sources, at one time."""
    monkeypatch.setattr(layout, "_TILE_BYTES", 4000)
    monkeypatch.setattr(layout, "_JOBS", 100)
    monkeypatch.setattr(layout, "_CHAIN_BYTES", 1)
    setting = {
        "inputs": np.random.default_rng(1).standard_normal((60, 3, 1)),
        "record": [*record, *(f"effective_{n}" for n in record)],
        "pairs": pairs,
        "mitigations": [Truncate(7, 11)],
    }
    cell = Elman(1, 8)
    least = gradsim.prepare(cell, **setting).plan
    assert len(least.rounds(least.memory_bytes)) >= count
    assert least.jacobian_bytes(0) < least.jacobian_bytes(None) / 2
    whole, parts = (gradsim.simulate(cell, **setting, memory=m) for m in (None, least.memory_bytes))
    for name, values in whole.data_vars.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)
