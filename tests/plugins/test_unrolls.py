"""Blocks of steps of the shipped cells: compiled or in NumPy, on any number of threads, the same numbers."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import gradsim
from gradsim.contracts.dense import kernels
from gradsim.contracts.trajectory import Trajectory, one_by_one
from gradsim.errors import NonFiniteError
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU

CELLS = [
    *(Elman(3, 17, activation=a) for a in ("tanh", "relu", "logistic")),
    Linear(3, 17),
    GRU(3, 5),
    GRU(3, 17),
    GRU(3, 5, reset_after=False),
    LSTM(3, 5),
    LSTM(3, 17),
    MinGRU(3, 5),
    LRU(3, 5),
]
CLOSE = {"float64": 1e-12, "float32": 3e-5}


def there_and_back(cell, steps, batch, dtype, parallel=one_by_one):
    """States, adjoints, contributions and gradient, from random parameters, states, inputs and losses."""
    rng = np.random.default_rng(3)
    m = cell.state_size
    params = {
        n: (p + 0.1 * rng.standard_normal(p.shape)).astype(dtype) for n, p in cell.init_params(rng).items()
    }
    state, inputs = rng.standard_normal((batch, m)), rng.standard_normal((steps, batch, 3))
    incoming, direct = rng.standard_normal((batch, m)), rng.standard_normal((steps, batch, m))
    state, inputs, incoming, direct = (x.astype(dtype) for x in (state, inputs, incoming, direct))
    taken = cell.unroll(params, state, inputs, {}, parallel)
    pulled = taken.pull(incoming, direct)
    by_name = {
        f"{kind} {n}": p
        for kind, parts in (("contribution", pulled.contributions()), ("gradient", pulled.gradient()))
        for n, p in parts.items()
    }
    return {"states": taken.states, "adjoints": pulled.adjoints, **by_name}


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (7, 3), (5, 37)])
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_compiled_and_numpy_agree(cell, steps, batch, dtype, monkeypatch):
    compiled = there_and_back(cell, steps, batch, dtype)
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    plain = there_and_back(cell, steps, batch, dtype)
    assert compiled.keys() == plain.keys()
    for name, value in plain.items():
        assert compiled[name].dtype == value.dtype == dtype
        np.testing.assert_allclose(
            compiled[name], value, rtol=0, atol=CLOSE[dtype] * np.abs(value).max(), err_msg=name
        )


@pytest.mark.parametrize("compiled", ["0", "1"])
@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("cell", [Elman(3, 64), GRU(3, 64), LSTM(3, 128)], ids=repr)
def test_same_bits_on_any_number_of_threads(cell, threads, compiled, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    alone = there_and_back(cell, 20, 37, "float32")
    with ThreadPoolExecutor(threads) as pool:
        together = there_and_back(cell, 20, 37, "float32", lambda jobs: list(pool.map(lambda j: j(), jobs)))
    for name, value in alone.items():
        np.testing.assert_array_equal(value, together[name])


@pytest.mark.parametrize("compiled", ["0", "1"])
@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize(
    "cell",
    [
        Elman(3, 64, recurrent_scale=0.1),
        GRU(3, 64, recurrent_scale=0.1),
        LSTM(3, 64, recurrent_scale=0.1, forget_bias=0.0),
    ],
    ids=repr,
)
def test_where_a_pull_stops_is_told_by_its_numbers_alone(cell, dtype, compiled, monkeypatch):
    """By the first batch element that vanishes; threads may have gone on with others, in any order."""
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    rng = np.random.default_rng(0)
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    inputs, state = np.ones((40, 37, 3), dtype=dtype), np.zeros((37, cell.state_size), dtype=dtype)
    edge = {"float32": -100, "float64": -900}[dtype]
    incoming = np.zeros((37, cell.state_size))
    incoming[5:30] = rng.standard_normal((25, cell.state_size))
    incoming[17] *= 2.0 ** (edge + 8)
    direct = np.zeros((40, *state.shape), dtype=dtype)
    found = []
    for order in (1, -1):
        jobs = lambda jobs, order=order: one_by_one(jobs[::order])
        pulled = cell.unroll(params, state, inputs, {}, jobs).pull(incoming.astype(dtype), direct)
        found.append((pulled.adjoints, *pulled.gradient().values(), *pulled.contributions().values()))
    for first, second in zip(*found, strict=True):
        np.testing.assert_array_equal(first, second)
    sizes = np.abs(found[0][0]).max(axis=-1)
    assert 2 < len(sizes) < 41
    assert sizes[1:, 5:30].min() >= 2.0**edge
    assert sizes[0].min(where=sizes[1] > 0, initial=1.0) < 2.0**edge


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_what_is_made_of_adjoints_from_elsewhere(cell, dtype):
    rng = np.random.default_rng(0)
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    state, inputs, adjoints = (
        rng.standard_normal(s).astype(dtype)
        for s in ((5, cell.state_size), (7, 5, 3), (7, 5, cell.state_size))
    )
    taken = cell.unroll(params, state, inputs, {}, one_by_one)
    plain = Trajectory(cell, params, taken.states, inputs, {})
    for ours, theirs in (
        (taken.contributions(adjoints), plain.contributions(adjoints)),
        (taken.gradient(adjoints), plain.gradient(adjoints)),
    ):
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            atol = CLOSE[dtype] * np.abs(value).max()
            np.testing.assert_allclose(ours[name], value, rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_numpy_keeps_the_contract(cell, monkeypatch):
    """As tests/test_conformance.py does for what is installed, compiled."""
    monkeypatch.setenv("GRADSIM_COMPILED", "0")
    check_cell(cell)


@pytest.mark.parametrize("compiled", ["0", "1"])
def test_an_overflow_is_loud(compiled, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    cell = Elman(1, 4, activation="relu")
    params = {"U": 1e10 * np.eye(4), "W": np.ones((4, 1)), "b": np.zeros(4)}
    with pytest.raises(NonFiniteError, match="for the first time at time 5"):
        gradsim.simulate(cell, np.ones((9, 2, 1)), params=params, record=["state"], dtype="float32")


def test_kernels_need_no_cache_on_disk(monkeypatch):
    monkeypatch.setattr("numba.core.caching.CacheImpl._locator_classes", [])
    kernels.compiled.cache_clear()
    assert np.isfinite(there_and_back(Elman(3, 5), 4, 2, "float64")["gradient U"]).all()


@pytest.mark.parametrize("kind", [LSTM, MinGRU, LRU])
def test_a_subclass_with_its_own_step_is_unrolled_by_it(kind):
    class Halved(kind):
        def step(self, params, state, inputs, xp):
            return 0.5 * super().step(params, state, inputs, xp)

    cell, rng = Halved(3, 5), np.random.default_rng(0)
    params, x = cell.init_params(rng), rng.standard_normal((4, 2, 3))
    states = cell.unroll(params, np.zeros((2, cell.state_size)), x, {}, one_by_one).states
    for t in range(4):
        np.testing.assert_array_equal(states[t + 1], cell.step(params, states[t], x[t], np))


@pytest.mark.parametrize("compiled", ["0", "1"])
def test_the_run_says_whether_it_was_compiled(compiled, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    ds = gradsim.simulate(Elman(1, 2), np.zeros((3, 1, 1)), record=["state"])
    assert (json.loads(ds.provenance)["versions"]["numba"] == "not used") == (compiled == "0")


def test_numba_is_imported_when_it_is_needed():
    code = "import sys, gradsim, gradsim_cells; gradsim.simulate; assert 'numba' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
