"""The influence ds_t/dparams, whole and by its norm, against differences, closed forms and the gradient."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
import gradsim_recorders.influence
from gradsim import Cell
from gradsim.engine import segments
from gradsim.errors import BudgetError, InputError
from gradsim.testing import conformance
from gradsim_cells import GRU, LRU, LSTM, Elman, ExpRNN, Linear, Stack
from gradsim_mitigations.leak import Leaky
from gradsim_recorders import InfluenceNormRecorder
from gradsim_tasks import FlipFlop

test_probes_keep_the_contract = conformance(InfluenceNormRecorder(probes=4))


@dataclass(frozen=True, eq=False)
class Own(Cell):
    """s' = tanh(a s + x), of free derivatives; `idle` does nothing."""

    name = "own"
    input_size: int = 2

    @property
    def blocks(self):
        return {"s": 2}

    def init_params(self, rng):
        return {"a": rng.standard_normal((2, 2)), "idle": np.ones(3)}

    def step(self, params, state, inputs, xp, *, step_index):
        kept = xp.where(step_index[..., None] > 3, state, 0.5 * state)
        return xp.tanh(kept @ params["a"] + inputs)


CELLS = {
    "elman": Elman(2, 3),
    "gru": GRU(2, 2),
    "lstm": LSTM(2, 2),
    "diagonal": LRU(2, 2),
    "stack": Stack((LSTM(2, 2), GRU(2, 2))),
    "own": Own(),
    "derived": ExpRNN(2, 2),
    "wrapped": Leaky(Elman(2, 2), rate=0.5),
}


@pytest.fixture
def x(rng):
    return rng.standard_normal((9, 2, 2))


@pytest.fixture
def several(monkeypatch):
    """Several segments, and several pieces of each."""
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)
    monkeypatch.setattr(gradsim_recorders.influence, "_PIECE_BYTES", 8)


def flat(ds, name):
    whole = ds[f"influence_{name}"].values
    return whole.reshape(*whole.shape[:3], -1)


@pytest.mark.parametrize("cell", CELLS.values(), ids=CELLS)
def test_it_is_that_of_central_differences_of_all_states(cell, x, rng, several):
    params = cell.init_params(rng)
    ds = gradsim.simulate(cell, x, params=params, record=["influence", "influence_norm"])
    h = 1e-5

    def states(name, i, by):
        moved = params[name].copy()
        moved.flat[i] += by
        return gradsim.simulate(cell, x, params={**params, name: moved}, record=["state"]).state.values

    for place, name in enumerate(params):
        slopes = [(states(name, i, h) - states(name, i, -h)) / (2 * h) for i in range(params[name].size)]
        expected = np.stack(slopes, axis=-1)
        np.testing.assert_allclose(flat(ds, name), expected, rtol=1e-6, atol=1e-8)
        found = ds.influence_norm.isel(param=place)
        np.testing.assert_allclose(found, np.linalg.norm(flat(ds, name), axis=(-2, -1)), rtol=1e-12)
        with np.errstate(divide="ignore"):
            log10 = np.log10(found)
        np.testing.assert_allclose(ds.influence_norm_log10.isel(param=place), log10, rtol=1e-12)


@pytest.mark.parametrize("cell", [Elman(3, 4), LSTM(3, 3), LRU(3, 3)], ids=lambda cell: cell.name)
def test_what_the_losses_make_of_it_is_the_gradient(cell, several):
    record = ["influence", "influence_norm", "adjoint", "step_jacobian", "gradient"]
    ds = gradsim.simulate(cell, task=FlipFlop(length=20), batch=3, rng=0, record=record)
    jacobians = ds.step_jacobian.values
    if jacobians.ndim > 4:  # diagonal blocks
        m, (g, k) = cell.state_size, jacobians.shape[2:4]
        whole = np.zeros((*jacobians.shape[:2], m, m))
        for i, j, group in np.ndindex(k, k, g):
            whole[:, :, i * g + group, j * g + group] = jacobians[:, :, group, i, j]
        jacobians = whole
    direct = ds.adjoint.values.copy()
    direct[:-1] -= np.einsum("tbi,tbij->tbj", direct[1:], jacobians)
    for name in cell.init_params(np.random.default_rng(0)):
        gradient = np.einsum("tbi,tbip->p", direct, flat(ds, name))
        np.testing.assert_allclose(gradient, ds[f"gradient_{name}"].values.ravel(), rtol=1e-10, atol=1e-14)
    of_readout = ds.influence_norm.sel(param=["readout_W", "readout_b"])
    assert float(of_readout.max()) == 0
    assert "influence_readout_W" not in ds


def linear(eigenvalue):
    """h_t = lambda h_{t-1} + x_t, of two real components where lambda is complex."""
    a, b = np.real(eigenvalue), np.imag(eigenvalue)
    matrix = np.array([[a, -b], [b, a]]) if b else np.array([[a]])
    cell = Linear(1, len(matrix))
    params = cell.init_params(np.random.default_rng(0))
    return cell, {n: np.zeros_like(p) for n, p in params.items()} | {
        "U": matrix,
        "W": np.eye(len(matrix))[:, :1],
    }


@pytest.mark.parametrize("eigenvalue", [0.5, -0.9, 0.6 + 0.7j, 0.95])
def test_of_a_linear_recurrence_it_grows_as_the_cube_of_its_memory(eigenvalue):
    cell, params = linear(eigenvalue)
    steps = 400
    # Inputs without correlations: what each of them does, one batch element each, squared and added up.
    impulses = np.eye(steps)[:, :, None]
    recorder = ["influence", "state"]
    ds = gradsim.simulate(cell, impulses, params=params, record=recorder)
    by_lambda = np.trace(ds.influence_U.values[-1], axis1=-2, axis2=-1)
    square = np.abs(eigenvalue) ** 2
    assert (by_lambda**2).sum() == pytest.approx((1 + square) / (1 - square) ** 3, rel=1e-9)
    assert (ds.state.values[-1] ** 2).sum() == pytest.approx(1 / (1 - square), rel=1e-9)


def test_of_a_linear_recurrence_with_constant_input():
    cell, params = linear(0.9)
    record = ["influence_norm", "influence"]
    ds = gradsim.simulate(cell, np.ones((400, 1, 1)), params=params, record=record)
    assert float(ds.influence_U[-1, 0, 0, 0, 0]) == pytest.approx((1 - 0.9) ** -2, rel=1e-12)
    assert float(ds.influence_norm.sel(param="U")[-1, 0]) == pytest.approx(100, rel=1e-12)


@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")
@pytest.mark.parametrize("eigenvalue", [1e3, 1e-3])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_beyond_the_range_of_floats(eigenvalue, dtype):
    cell, params = linear(eigenvalue)
    params["W"] = np.zeros((1, 1))  # dh_t/dW leaves the range, while the state is zero
    x = np.zeros((200, 1, 1))
    x[0] = 1
    for recorder in (InfluenceNormRecorder(), InfluenceNormRecorder(probes=400)):
        ds = gradsim.simulate(cell, x, params=params, record=[recorder], dtype=dtype)
        log10 = ds.influence_norm_log10.sel(param="W")[1:, 0]
        expected = np.arange(200) * np.log10(eigenvalue)
        np.testing.assert_allclose(log10, expected, atol=1e-3 if recorder.probes is None else 0.1)
        assert np.abs(log10).max() > 590


def test_in_float32(x):
    wide, narrow = (
        gradsim.simulate(LSTM(2, 3), x, record=["influence", "influence_norm"], dtype=dtype, rng=0)
        for dtype in ("float64", "float32")
    )
    assert narrow.influence_U.dtype == np.float32
    np.testing.assert_allclose(narrow.influence_U, wide.influence_U, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(narrow.influence_norm, wide.influence_norm, rtol=1e-4)


@pytest.mark.parametrize("cell", [LSTM(2, 4), Own()], ids=lambda cell: cell.name)
def test_probes_estimate_the_norm_within_the_error_that_they_tell(cell, rng):
    x = rng.standard_normal((15, 2, 2))
    exact = gradsim.simulate(cell, x, record=["influence_norm"], rng=0).influence_norm[-1].values
    seen = exact > 0
    found, errors = [], []
    for seed in range(80):
        recorder = InfluenceNormRecorder(probes=64, seed=seed)
        ds = gradsim.simulate(cell, x, record=[recorder], rng=0)
        found.append(ds.influence_norm[-1].values)
        errors.append(ds.influence_norm_error[-1].values)
    found, errors = np.array(found), np.array(errors)
    away = (found[:, seen] / exact[seen] - 1) / errors[:, seen]
    assert 0.9 < (np.abs(away) < 2).mean() < 0.99  # normal: 0.954
    assert errors.max() < 1.5 / np.sqrt(2 * 64)
    # The square is not biased.
    squares = (found[:, seen] / exact[seen]) ** 2
    assert np.abs(squares.mean(0) - 1).max() < 4 * (squares.std(0) / np.sqrt(80)).max()
    assert not found[:, ~seen].any()
    assert not errors[:, ~seen].any()


def test_probes_are_those_of_their_seed(x):
    first, again, other = (
        gradsim.simulate(GRU(2, 3), x, record=[InfluenceNormRecorder(probes=3, seed=seed)], rng=0)
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.influence_norm, again.influence_norm)
    assert (first.influence_norm != other.influence_norm)[1:].any()


def test_one_probe_tells_no_error():
    with pytest.raises(InputError, match="probes"):
        InfluenceNormRecorder(probes=1)


@pytest.mark.parametrize(
    ("name", "taken"),
    [("influence", "influence_U"), ("influence_norm", "what influence_norm carries")],
)
def test_what_would_not_fit_is_refused_with_its_size(name, taken, monkeypatch):
    monkeypatch.setattr(LSTM, "unroll", None)
    with pytest.raises(BudgetError, match=rf"{taken} alone takes [\d.]+ TB"):
        gradsim.simulate(LSTM(4, 512), np.zeros((100, 32, 4)), record=[name])


def test_probes_of_a_large_cell_fit(rng):
    x = rng.standard_normal((4, 1, 3))
    ds = gradsim.simulate(LSTM(3, 128), x, record=[InfluenceNormRecorder(probes=2)], memory=2**30)
    assert (ds.influence_norm[2:, :, :3] > 0).all()
