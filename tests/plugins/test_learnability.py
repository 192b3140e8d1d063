"""The learnability envelope, exact and by diagonals, against loops and closed forms."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Cell, Pairs, analysis, through
from gradsim.engine import segments
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU, ParaGRU, Stack
from gradsim_mitigations import Truncate
from gradsim_recorders import LearnabilityEnvelopeDiagonalRecorder as Diagonal

test_terms_keep_the_contract = conformance(Diagonal(terms="gates"), Diagonal(terms="diagonal"))

CELLS = {
    "elman": Elman(2, 3),
    "gru": GRU(2, 3),
    "lstm": LSTM(2, 3),
    "diagonal": LRU(2, 3),
    "stack": Stack((LSTM(2, 3), GRU(3, 2), Elman(2, 2))),
}
PAIRS = [{}, {"max_lag": 3}, {"lags": (2, 5)}, {"times": (4, -1)}, {"sources": (1, 6)}]


@pytest.fixture
def x(rng):
    return rng.standard_normal((11, 2, 2))


def dense(ds, name):
    """Shares or step Jacobians as full matrices."""
    array = ds[name].values
    if "group" not in ds[name].dims:
        return array
    *lead, g, k, _ = array.shape
    whole = np.zeros((*lead, g * k, g * k))
    for i, j, group in np.ndindex(k, k, g):
        whole[..., i * g + group, j * g + group] = array[..., group, i, j]
    return whole


def diagonals(cell, jacobian):
    """What leads from each unit to itself, block to block of equal sizes, as a matrix like the Jacobian."""
    kept = np.zeros(jacobian.shape[-2:], dtype=bool)
    for out, m in cell.blocks.items():
        for into, n in cell.blocks.items():
            if m == n:
                kept[cell.block(out), cell.block(into)] = np.eye(n)
    return np.where(kept, jacobian, 0)


def envelope(cell, product):
    """(to, from) of one batch element."""
    found = np.full((len(cell.blocks), len(cell.blocks)), np.nan)
    for i, (out, m) in enumerate(cell.blocks.items()):
        for j, (into, n) in enumerate(cell.blocks.items()):
            if m == n:
                found[i, j] = np.abs(np.diag(product[cell.block(out), cell.block(into)])).sum()
    return found


def pairs_of(array):
    """Every recorded pair: (t, k, values (batch, to, from))."""
    for i, j in np.ndindex(*array.shape[:2]):
        one = array[i, j]
        k = int(one.source)
        t = k + int(one.lag) if "lag" in array.dims else int(one[array.dims[0]])
        if t >= k and t <= 11:
            yield t, k, one.values


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("pairs", PAIRS, ids=repr)
def test_the_exact_one_is_that_of_a_loop(cell, pairs, x):
    ds = gradsim.simulate(
        cell, x, pairs=Pairs(**pairs), record=["learnability_envelope", "step_jacobian"], rng=0
    )
    jacobians, met = dense(ds, "step_jacobian"), 0
    for t, k, found in pairs_of(ds.learnability_envelope):
        for b in range(2):
            product = np.eye(cell.state_size)
            for step in range(k + 1, t + 1):
                product = jacobians[step - 1, b] @ product
            np.testing.assert_allclose(found[b], envelope(cell, product), rtol=1e-10, atol=1e-14)
            met += 1
    assert met == np.isfinite(ds.learnability_envelope.values[..., 0, 0]).sum()
    with np.errstate(divide="ignore"):
        log10 = np.log10(ds.learnability_envelope)
    np.testing.assert_allclose(ds.learnability_envelope_log10, log10, rtol=1e-12)


@pytest.mark.parametrize("terms", ["first_order", "gates", "diagonal"])
@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
@pytest.mark.parametrize("pairs", PAIRS, ids=repr)
def test_that_by_diagonals_is_that_of_a_loop(cell, pairs, terms, x, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)
    record = [Diagonal(terms=terms), "step_jacobian"]
    gated = bool(cell.paths) and terms != "diagonal"
    ds = gradsim.simulate(cell, x, pairs=Pairs(**pairs), record=record, rng=0)
    whole = diagonals(cell, dense(ds, "step_jacobian"))
    direct = whole
    if gated:
        shares = gradsim.simulate(cell, x, record=["path_jacobian"], rng=0)
        direct = diagonals(cell, dense(shares.sel(path="direct"), "path_jacobian"))
    rest, unit = whole - direct, np.eye(cell.state_size)
    for t, k, found in pairs_of(ds.learnability_envelope_diagonal):
        for b in range(2):
            steps = range(k, t)
            ways = [[direct[i, b] for i in steps]]
            if terms == "first_order":
                ways += [[(rest if i == j else direct)[i, b] for i in steps] for j in steps]
            total = sum(functools.reduce(lambda done, step: step @ done, way, unit) for way in ways)
            np.testing.assert_allclose(found[b], envelope(cell, total), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("cell", [LRU(2, 3), MinGRU(2, 3), ParaGRU(2, 3), Stack((MinGRU(2, 3),))], ids=repr)
def test_of_units_that_do_not_see_each_other_diagonals_are_all_there_is(cell, x):
    record = ["learnability_envelope", Diagonal(terms="diagonal")]
    ds = gradsim.simulate(cell, x, record=record, rng=0)
    np.testing.assert_allclose(ds.learnability_envelope_diagonal, ds.learnability_envelope, rtol=1e-12)


def test_where_gates_see_no_state_the_paper_is_exact(x):
    ds = gradsim.simulate(
        MinGRU(2, 3), x, record=["learnability_envelope", "learnability_envelope_diagonal"], rng=0
    )
    np.testing.assert_allclose(ds.learnability_envelope_diagonal, ds.learnability_envelope, rtol=1e-12)


def test_fixed_gates_alone_decay_as_their_product(rng):
    cell = LSTM(2, 3)
    params = cell.init_params(rng)
    params["U"][:], params["W"][3:6] = 0, 0
    params["b"][3:6] = -12.0  # f = sigmoid(-12): beyond float64 after 60 steps
    steps = 100
    record = ["learnability_envelope", "learnability_envelope_diagonal"]
    ds = gradsim.simulate(
        cell, rng.standard_normal((steps, 2, 2)), params=params, record=record, pairs=Pairs(max_lag=steps)
    )
    expected = np.log10(3) - np.arange(steps + 1) * np.log10(1 + np.exp(12))
    for name in record:
        log10 = ds[f"{name}_log10"].sel(to_block="c", from_block="c")
        for lag in (0, 1, 50, 100):
            np.testing.assert_allclose(log10.isel(lag=lag)[: steps + 1 - lag], expected[lag], rtol=1e-10)
    by_lag = analysis.by_lag(ds, "learnability_envelope").mean(("source", "batch"))
    np.testing.assert_allclose(by_lag.sel(to_block="c", from_block="c")[:3], 10 ** expected[:3], rtol=1e-10)


@dataclass(frozen=True, eq=False)
class Leaking(Cell):
    """h' = (1 - a) h + a tanh(u h + x), of one unit."""

    name = "leaking"
    input_size: int = 1

    @property
    def blocks(self):
        return {"h": 1}

    @property
    def paths(self):
        return ("candidate",)

    def init_params(self, rng):
        return {"u": np.array(0.7)}

    def step(self, params, state, inputs, xp):
        return 0.9 * state + 0.1 * through(xp.tanh(params["u"] * state + inputs), "candidate")


def test_a_leaky_unit():
    """Where it rests, ds_t/ds_k = (1 - a + a u)^l, which the paper has to first order in a u / (1 - a)."""
    lag, pairs = np.arange(41), Pairs(sources=(0,))
    by_terms = {
        "diagonal": (0.9 + 0.07) ** lag,
        "gates": 0.9**lag,
        "first_order": 0.9**lag * (1 + lag * 0.07 / 0.9),
    }
    for terms, expected in by_terms.items():
        record = ["learnability_envelope", Diagonal(terms=terms)]
        ds = gradsim.simulate(Leaking(), np.zeros((40, 1, 1)), record=record, pairs=pairs)
        np.testing.assert_allclose(ds.learnability_envelope_diagonal.values.ravel(), expected, rtol=1e-12)
        np.testing.assert_allclose(ds.learnability_envelope.values.ravel(), 0.97**lag, rtol=1e-12)


def test_the_first_order_of_a_gru_is_that_of_the_paper(x):
    """Product of 1 - z times one plus the sum of what the rest of the diagonal is of it."""
    ds = gradsim.simulate(
        GRU(2, 3), x, record=["learnability_envelope_diagonal", "gate", "step_jacobian"], rng=0
    )
    jacobians = np.diagonal(ds.step_jacobian.values, axis1=-2, axis2=-1)
    kept = ds.gate.sel(path="update").values
    for t, k in ((1, 0), (5, 2), (11, 0)):
        leak, rest = kept[k:t], jacobians[k:t] - kept[k:t]
        mu = leak.prod(axis=0) * (1 + (rest / leak).sum(axis=0))
        found = ds.learnability_envelope_diagonal.sel(time=t, source=k).values[:, 0, 0]
        np.testing.assert_allclose(found, np.abs(mu).sum(axis=-1), rtol=1e-10)


def test_the_first_order_of_an_lstm_is_that_of_the_paper_and_what_it_leaves_out(x):
    """From c to h: e_t prod f (1 + sum over steps of what h gives back to c), e = o (1 - tanh(c)^2)."""
    cell = LSTM(2, 3)
    params = cell.init_params(np.random.default_rng(0))
    record = ["learnability_envelope_diagonal", "gate", "state"]
    ds = gradsim.simulate(cell, x, params=params, record=record)
    i, f, g, o = (ds.gate.sel(path=path).values for path in cell.paths)
    by_i, by_f, by_g, by_o = np.diagonal(params["U"].reshape(4, 3, 3), axis1=1, axis2=2)
    before, after = ds.state.values[:-1, :, 3:], np.tanh(ds.state.values[1:, :, 3:])
    back = before * f * (1 - f) * by_f + i * (1 - g**2) * by_g + g * i * (1 - i) * by_i
    seen = o * (1 - after**2)
    for t, k in ((1, 0), (5, 2), (11, 0)):
        kept, last = f[k:t].prod(axis=0), t - 1
        ways = sum((back[j] * seen[j - 1] / f[j] for j in range(k + 1, t)), np.zeros((2, 3)))
        mu = seen[last] * kept * (1 + ways)
        if t > k + 1:  # by the output gate of the last step, which the paper takes as given
            mu += after[last] * o[last] * (1 - o[last]) * by_o * seen[last - 1] * kept / f[last]
        found = ds.learnability_envelope_diagonal.sel(time=t, source=k, to_block="h", from_block="c")
        np.testing.assert_allclose(found, np.abs(mu).sum(axis=-1), rtol=1e-10)


def test_twin_and_float32(x):
    record = ["learnability_envelope", "effective_learnability_envelope", "learnability_envelope_diagonal"]
    wide, narrow = (
        gradsim.simulate(LSTM(2, 3), x, record=record, mitigations=[Truncate(3, 4)], dtype=dtype, rng=0)
        for dtype in ("float64", "float32")
    )
    for name in record:
        np.testing.assert_allclose(narrow[name], wide[name], rtol=1e-3, atol=1e-5)
    raw, effective = (wide[name].sel(time=11, source=0) for name in record[:2])
    assert float(effective.max()) == 0
    assert float(raw.max()) > 0


@pytest.mark.parametrize(
    ("cell", "out", "into"),
    [
        (LSTM(2, 3), ("h",), ("c",)),
        (CELLS["stack"], ("layer1_h",), ("layer0_c", "layer2_h")),
        (CELLS["stack"], ("layer0_h",), ("layer1_h",)),
    ],
    ids=["pair", "several", "different sizes"],
)
def test_between_chosen_blocks_alone(cell, out, into, x):
    record = ["learnability_envelope", "learnability_envelope_diagonal"]
    whole = gradsim.simulate(cell, x, record=record, rng=0)
    some = gradsim.simulate(cell, x, record=record, rng=0, pairs=Pairs(blocks_out=out, blocks_in=into))
    for name in record:
        expected = whole[name].sel(to_block=list(out), from_block=list(into))
        np.testing.assert_allclose(some[name], expected, rtol=1e-12)
