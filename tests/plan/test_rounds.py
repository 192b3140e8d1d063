"""Rounds of products: everything once, in the room that there is."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.engine import layout, segments
from gradsim.plan.rounds import jacobian_bytes, largest, rounds
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_mitigations import ClipNorm, JacobianPenalty, Truncate, WeightDecay

STEPS, BATCH = 60, 5


@pytest.fixture
def small_tiles(monkeypatch):
    monkeypatch.setattr(layout, "_TILE_BYTES", 4000)
    monkeypatch.setattr(layout, "_JOBS", 100)
    monkeypatch.setattr(layout, "_CHAIN_BYTES", 1)


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


@pytest.mark.parametrize("cell", [Elman(1, 8), MinGRU(1, 64), LRU(1, 16)], ids=lambda c: c.name)
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
def test_products_in_rounds_are_the_same_bits(small_tiles, cell, record, pairs, count):
    """Step Jacobians of a part of the batch, or of the sources, at one time; they vanish, and are scaled."""
    setting = {
        "inputs": 6 * np.random.default_rng(1).standard_normal((60, 3, 1)),
        "record": [*record, *(f"effective_{n}" for n in record)],
        "pairs": pairs,
        "mitigations": [Truncate(7, 11)],
        "dtype": "float32",
    }
    least = gradsim.prepare(cell, **setting).plan
    assert len(least.rounds(least.memory_bytes)) >= count
    assert least.jacobian_bytes(0) < least.jacobian_bytes(None) / 2
    whole, parts = (gradsim.simulate(cell, **setting, memory=m) for m in (None, least.memory_bytes))
    for name, values in whole.data_vars.items():
        np.testing.assert_array_equal(parts[name], values, err_msg=name)


RAW = [
    "state",
    "loss",
    "step_jacobian",
    "jacobian_product",
    "product_norm",
    "product_spectral_norm",
    "product_spectrum",
    "lyapunov",
    "loss_adjoint_norm",
    "adjoint",
    "adjoint_norm",
    "contribution",
    "contribution_norm",
    "gradient",
    "gradient_norm",
]
OF_LINEAR = {f"effective_{n}" for n in RAW[2:9]}
"""Of a backward pass that is linear in the adjoint."""


def drawn(rng):
    """A cell, and what else makes a run: sizes, pairs, mitigations, recorders, numbers of any size."""
    steps, n = int(rng.integers(1, 90)), int(rng.integers(1, 9))
    cells = (MinGRU(2, 4 * n), LRU(2, n), Elman(2, n), GRU(2, n), LSTM(2, n), Linear(2, n))
    cell = cells[rng.integers(len(cells))]
    scale = 10 ** rng.uniform(-1.5, 0 if isinstance(cell, Linear) else 1)
    some = tuple(np.unique(rng.integers(0, steps + 1, 3)).tolist())
    choices = {}, {"max_lag": some[0]}, {"sources": some}, {"times": some}, {"lags": some}
    k1 = int(rng.integers(1, 10))
    mitigations = (
        Truncate(k1, k1 + int(rng.integers(40))),
        ClipNorm(10 ** rng.uniform(-3, 1), where="adjoint"),
        ClipNorm(10 ** rng.uniform(-3, 1)),
        JacobianPenalty(0.1),
        WeightDecay(0.1),
    )
    chosen = [m for m in mitigations if rng.random() < 0.3]
    names = {*RAW, *(f"effective_{n}" for n in RAW[2:] if chosen)}
    if mitigations[1] in chosen:
        names -= OF_LINEAR
    first = cell.init_params(np.random.default_rng(1))
    return cell, {
        "inputs": scale * rng.standard_normal((steps, int(rng.integers(1, 7)), 2)),
        "params": {n: np.asarray(p) * scale ** rng.uniform(0, 2) for n, p in first.items()},
        "pairs": Pairs(**choices[rng.integers(len(choices))]),
        "mitigations": chosen,
        "record": rng.choice(
            sorted(names), size=min(len(names), int(rng.integers(1, 8))), replace=False
        ).tolist(),
        "dtype": rng.choice(["float32", "float64"]).item(),
        "rng": 3,
    }


@pytest.mark.parametrize(
    "seeds",
    [range(12), *(pytest.param(range(i, i + 100), marks=pytest.mark.long) for i in range(12, 412, 100))],
)
@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")
def test_no_bit_depends_on_memory_or_threads(small_tiles, monkeypatch, seeds):
    """Any cell, pairs, mitigations and recorders, with the least memory that will do, and some more."""
    monkeypatch.setattr(segments, "_STATE_BYTES", 2**14)
    monkeypatch.setattr(segments, "_JACOBIAN_BYTES", 2**14)
    compared, in_rounds = 0, 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        cell, setting = drawn(rng)
        monkeypatch.setenv("GRADSIM_COMPILED", str(rng.integers(2)))
        plan = gradsim.prepare(cell, **setting).plan
        in_rounds += len(plan.rounds(plan.memory_bytes)) > 1
        whole = gradsim.simulate(cell, **setting, threads=1)
        for share in (1, 1.5):
            memory, threads = int(share * plan.memory_bytes), int(rng.integers(1, 4))
            found = gradsim.simulate(cell, **setting, threads=threads, memory=memory)
            for name, values in whole.data_vars.items():
                assert found[name].values.tobytes() == values.values.tobytes(), (seed, share, threads, name)
                compared += 1
    assert in_rounds > len(seeds) / 4
    assert compared > 10 * len(seeds)
