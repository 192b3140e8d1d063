"""Steps of a run, against the adjoint recursion written out with step Jacobians."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import Stripped

from gradsim.contracts import trajectory
from gradsim.contracts.trajectory import Trajectory, one_by_one, pulled_back, shortened, step_rows, time_rows
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU

CELLS = [Elman(2, 4), GRU(2, 3), LSTM(2, 3), LRU(2, 3)]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)


def taken(cell, rng, steps=9, batch=3, dtype="float64"):
    """From the first step on, as plain steps whatever the cell's own way is."""
    inputs = rng.standard_normal((steps, batch, 2)).astype(dtype)
    start = rng.standard_normal((batch, cell.state_size)).astype(dtype)
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    own = cell.unroll(params, start, inputs, {}, one_by_one)
    return Trajectory(cell, own.params, own.states, inputs, {})


def test_rows_cover_all_steps_and_times_once():
    steps, times = np.zeros(9, dtype=int), np.zeros(10, dtype=int)
    for piece in (range(1, 5), range(5, 6), range(6, 10)):
        steps[step_rows(piece)] += 1
        times[time_rows(piece)] += 1
    assert (steps == 1).all()
    assert (times == 1).all()


@each_cell
def test_the_states_are_those_of_single_steps(cell, rng):
    whole = taken(cell, rng)
    assert whole.steps == range(1, 10)
    for t in range(9):
        after = cell.step(whole.params, whole.states[t], whole.inputs[t], np)
        np.testing.assert_allclose(whole.after[t], after, rtol=1e-12, atol=1e-15)


@each_cell
def test_a_part_of_a_part_is_that_part(cell, rng):
    whole = taken(cell, rng)
    part = whole[range(3, 8)][range(4, 6)]
    assert part.steps == range(4, 6)
    np.testing.assert_array_equal(part.states, whole.states[3:6])
    np.testing.assert_array_equal(part.inputs, whole.inputs[3:5])
    np.testing.assert_array_equal(part.jacobian(), whole.jacobian()[3:5])


@each_cell
def test_adjoints_are_carried_by_step_jacobians(cell, rng):
    whole = taken(cell, rng)
    incoming, direct = rng.standard_normal(whole.states[-1].shape), rng.standard_normal(whole.before.shape)
    expected, jacobian = [incoming], whole.jacobian()
    for t in range(8, -1, -1):
        expected.append(np.einsum("bi,bij->bj", expected[-1], jacobian[t]) + direct[t])
    pulled = whole.pull(incoming, direct)
    np.testing.assert_allclose(pulled.adjoints, expected[::-1], rtol=1e-11, atol=1e-13)
    total = {n: g.sum(axis=0) for n, g in pulled.contributions().items()}
    for name, value in pulled.gradient().items():
        np.testing.assert_allclose(value, total[name], rtol=1e-11, atol=1e-13)
    for name, value in whole.params_jacobian().items():
        found = np.einsum("tbi,tbi...->t...", pulled.adjoints[1:], value)
        np.testing.assert_allclose(found, pulled.contributions()[name], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("cell", [*CELLS, *map(Stripped, CELLS)], ids=repr)
def test_rows_are_combined_before_they_are_derived_by_the_parameters(cell, dtype, rng):
    """However few the positions are: by rows, or by columns of a cell with nothing but a step."""
    tolerance = {"rtol": 1e-10, "atol": 1e-13} if dtype == "float64" else {"rtol": 1e-4, "atol": 1e-5}
    rows = rng.standard_normal((2, cell.state_size)).astype(dtype)
    for steps in (1, 40):
        whole = taken(cell, rng, steps=steps, dtype=dtype)
        found, every = whole.params_jacobian(rows), whole.params_jacobian()
        for name, value in every.items():
            expected = np.einsum("rm,tbm...->tbr...", rows, value)
            assert found[name].dtype == expected.dtype == np.dtype(dtype)
            np.testing.assert_allclose(found[name], expected, **tolerance, err_msg=name)


@each_cell
def test_derivatives_with_respect_to_the_inputs(cell, rng):
    whole, h = taken(cell, rng), 1e-6
    adjoints, direction = rng.standard_normal(whole.after.shape), rng.standard_normal(whole.inputs.shape)
    moved = [
        cell.step(whole.params, whole.before, whole.inputs + sign * h * direction, np) for sign in (1, -1)
    ]
    along = (whole.inputs_vjp(adjoints) * direction).sum()
    assert along == pytest.approx((adjoints * (moved[0] - moved[1])).sum() / (2 * h), rel=1e-7)


SMALL = [Stripped(cell) for cell in (Elman(2, 4), LSTM(2, 3), LRU(2, 9), MinGRU(2, 70))]
LARGE = [Stripped(cell) for cell in (Elman(2, 70), GRU(2, 70))]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("cell", SMALL + LARGE, ids=lambda c: f"{c.cell.name}{c.state_size}")
def test_adjoints_of_cells_with_nothing_but_a_step(cell, batch, dtype, rng, monkeypatch):
    """By step Jacobians of many steps at once, or by tracing each step: the same numbers."""
    whole = taken(cell, rng, 50, batch, dtype)
    assert whole.by_blocks == (cell in SMALL)
    incoming = rng.standard_normal(whole.states[-1].shape).astype(dtype)
    direct = rng.standard_normal(whole.before.shape).astype(dtype)
    found = whole.pull(incoming, direct).adjoints
    monkeypatch.setattr(Trajectory, "by_blocks", cell in LARGE)
    other = whole[whole.steps].pull(incoming, direct).adjoints
    assert found.dtype == other.dtype == dtype
    sizes = np.abs(found).max(axis=-1, keepdims=True)
    assert np.abs(found - other).max() / sizes.max() < {"float32": 1e-5, "float64": 1e-14}[dtype]


@pytest.mark.parametrize("piece_bytes", [1, 2**11, 2**20])
@pytest.mark.parametrize("cell", SMALL, ids=lambda c: c.cell.name)
def test_no_bit_of_an_adjoint_depends_on_how_steps_are_cut(cell, piece_bytes, rng, monkeypatch):
    whole = taken(cell, rng, 50)
    incoming, direct = rng.standard_normal(whole.states[-1].shape), rng.standard_normal(whole.before.shape)
    expected = whole.pull(incoming, direct).adjoints
    monkeypatch.setattr(trajectory, "_PIECE_BYTES", piece_bytes)
    for steps in (range(31, 51), range(30, 31), range(1, 30)):
        rows = step_rows(steps)
        found = whole[steps].pull(incoming, direct[rows]).adjoints
        np.testing.assert_array_equal(found, expected[rows.start : rows.stop + 1])
        incoming = found[0]


def test_a_cell_that_pulls_a_cotangent_back_itself_is_asked_to(rng):
    """A kernel of somebody's own is not passed over, however small the state."""
    assert not taken(Elman(2, 4), rng).by_blocks


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("octaves", [-30, -3, 3, 30])
def test_adjoints_are_pulled_back_to_where_they_leave_the_range(dtype, octaves):
    adjoints = np.full((400, 2, 3), np.nan, dtype=dtype)
    adjoints[-1] = [[1], [0]]

    def pull(row):
        np.multiply(adjoints[row + 1], 2.0**octaves, out=adjoints[row])

    with np.errstate(over="ignore"):
        first = pulled_back(adjoints, pull)
    most = {"float32": 100, "float64": 900}[dtype]
    taken = min(-(-most // octaves) if octaves > 0 else most // -octaves + 1, 399)
    assert 399 - first == taken
    np.testing.assert_array_equal(adjoints[first:, 0, 0], 2.0 ** (octaves * np.arange(taken, -1.0, -1)))
    np.testing.assert_array_equal(adjoints[first:, 1], 0)


@each_cell
def test_the_last_steps_of_a_pull(cell, rng):
    whole = taken(cell, rng)
    *direct, incoming = rng.standard_normal(whole.states.shape)
    pulled = whole.pull(incoming, np.array(direct))
    assert shortened(pulled, whole) is pulled
    last = shortened(pulled, whole[range(6, 10)])
    np.testing.assert_array_equal(last.adjoints, pulled.adjoints[-5:])
    for name, found in last.contributions().items():
        expected = pulled.contributions()[name][-4:]
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-14)
        np.testing.assert_allclose(last.gradient()[name], expected.sum(axis=0), rtol=1e-12, atol=1e-14)
