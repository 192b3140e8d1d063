"""Passes of dense cells over many steps in NumPy; those of the shipped cells are in tests/plugins."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from probes.cells import Chained, Coupled, Peephole

from gradsim.contracts.trajectory import Trajectory, one_by_one

CELLS = [Coupled(hidden_size=100), Peephole(hidden_size=150), Chained(hidden_size=150)]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
CLOSE = {"float64": 1e-12, "float32": 3e-5}


def taken(cell, rng, dtype="float64", parallel=one_by_one, steps=30, batch=37):
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    state, inputs = rng.standard_normal((batch, cell.state_size)), rng.standard_normal((steps, batch, 2))
    return cell.unroll(params, state.astype(dtype), inputs.astype(dtype), {}, parallel)


def seeds(taken, rng):
    *direct, incoming = 1e-3 * rng.standard_normal(taken.states.shape)
    return incoming.astype(taken.states.dtype), np.array(direct, dtype=taken.states.dtype)


@pytest.mark.parametrize("dtype", CLOSE)
@each_cell
def test_they_are_single_steps(cell, dtype, rng):
    ours = taken(cell, rng, dtype)
    plain = Trajectory(cell, ours.params, ours.states, ours.inputs, {})
    np.testing.assert_allclose(ours.after, plain.call(cell.step, np), rtol=0, atol=CLOSE[dtype])
    incoming, direct = seeds(ours, rng)
    mine, theirs = (t.pull(incoming, direct) for t in (ours, plain))
    assert mine.adjoints.dtype == dtype
    pairs = [(mine.adjoints, theirs.adjoints), (ours.pull_one(3, incoming), plain.pull_one(3, incoming))]
    for made in ("gradient", "contributions"):
        found = (getattr(t, made)() for t in (mine, theirs))
        pairs += zip(*(f.values() for f in found), strict=True)
    for one, other in pairs:
        np.testing.assert_allclose(one, other, rtol=0, atol=CLOSE[dtype] * np.abs(other).max())


@each_cell
def test_no_bit_depends_on_threads_or_how_steps_are_cut(cell, rng):
    ours = taken(cell, np.random.default_rng(0))
    incoming, direct = seeds(ours, rng)
    whole = ours.pull(incoming, direct).adjoints
    assert len(whole) == 31
    with ThreadPoolExecutor(3) as pool:
        at_once = taken(cell, np.random.default_rng(0), parallel=lambda jobs: list(pool.map(_call, jobs)))
        np.testing.assert_array_equal(at_once.states, ours.states)
        np.testing.assert_array_equal(at_once.pull(incoming, direct).adjoints, whole)
    last = ours[range(18, 31)].pull(incoming, direct[17:]).adjoints
    np.testing.assert_array_equal(last, whole[17:])
    np.testing.assert_array_equal(ours[range(1, 18)].pull(last[0], direct[:17]).adjoints, whole[:18])


def _call(job):
    job()
