"""The recorders that answer by block, path, gate and sequence, each against its definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sru import SRU
from stepping import sigmoid

import gradsim
from gradsim import Pairs, analysis, plot
from gradsim.engine import segments
from gradsim.errors import InputError
from gradsim.testing.specimen import Elementwise
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU, Stack
from gradsim_mitigations import Truncate
from gradsim_mitigations.leak import Leaky
from gradsim_tasks import FlipFlop

BLOCKED = {
    "lstm": LSTM(2, 3),
    "stack": Stack((LSTM(2, 3), GRU(3, 2), LSTM(2, 4))),
    "diagonal": LRU(2, 3),
    "one block": Elman(2, 4),
}


@pytest.fixture
def x(rng):
    return rng.standard_normal((11, 2, 2))


@pytest.mark.parametrize("cell", BLOCKED.values(), ids=BLOCKED)
@pytest.mark.parametrize("pairs", [{}, {"max_lag": 3}, {"lags": (2, 5)}, {"times": (4, -1)}], ids=repr)
def test_the_squares_of_all_blocks_sum_to_that_of_the_product(cell, pairs, x):
    record = ["block_norm", "product_norm", "effective_block_norm", "effective_product_norm"]
    ds = gradsim.simulate(cell, x, pairs=Pairs(**pairs), record=record, mitigations=[Truncate(3, 4)], rng=0)
    assert list(ds.to_block.values) == list(ds.from_block.values) == list(cell.blocks)
    for name in record[::2]:
        total = np.sqrt((ds[name] ** 2).sum(("to_block", "from_block"), skipna=False))
        whole = ds[name.replace("block", "product")]
        np.testing.assert_allclose(total, whole.transpose(*total.dims), rtol=1e-12, atol=1e-300)
        with np.errstate(divide="ignore"):
            np.testing.assert_allclose(ds[name + "_log10"], np.log10(ds[name]), rtol=1e-12)


def test_blocks_of_products_are_slices_of_them(x):
    cell = BLOCKED["stack"]
    ds = gradsim.simulate(cell, x, record=["block_norm", "jacobian_product"], rng=0)
    for out in cell.blocks:
        for into in cell.blocks:
            part = ds.jacobian_product[..., cell.block(out), cell.block(into)].values
            norm = ds.block_norm.sel(to_block=out, from_block=into)
            np.testing.assert_allclose(norm, np.sqrt((part**2).sum((-1, -2))), rtol=1e-12)
    upwards = ds.block_norm.sel(to_block="layer0_h", from_block="layer1_h").values
    assert np.nanmax(upwards) == 0  # nothing goes down through the layers


def test_figures_and_rates_take_a_pair_of_blocks(x):
    ds = gradsim.simulate(BLOCKED["lstm"], x, record=["block_norm", "jacobian_product"], rng=0)
    one = ds.sel(to_block="c", from_block="h")
    assert plot.gain_heat_map(one, variable="block_norm").get_xlabel()
    by_lag = analysis.gain_by_lag(one, "block_norm")
    again = analysis.gain_by_lag(analysis.gain(ds, block_out="c", block_in="h"))
    np.testing.assert_allclose(by_lag["median"][1:], again["median"][1:] + np.log10(3) / 2, rtol=1e-12)


def test_blocks_that_the_groups_of_a_jacobian_do_not_divide(x):
    cell = Elementwise()
    ds = gradsim.simulate(cell, x, record=["block_norm", "jacobian_product"], rng=0)
    diagonal = ds.jacobian_product.values[..., 0, 0]
    for name in cell.blocks:
        expected = np.sqrt((diagonal[..., cell.block(name)] ** 2).sum(-1))
        np.testing.assert_allclose(ds.block_norm.sel(to_block=name, from_block=name), expected, rtol=1e-12)
    assert np.nanmax(ds.block_norm.sel(to_block="fast", from_block="slow").values) == 0


def closed_lstm(bias, n=3):
    """An LSTM whose gates see no state: f is sigmoid(bias)."""
    cell = LSTM(2, n)
    params = cell.init_params(np.random.default_rng(0))
    params["U"][:] = 0
    params["W"][n : 2 * n] = 0
    params["b"][n : 2 * n] = bias
    return cell, params


@pytest.mark.parametrize(("bias", "steps"), [(0.5, 40), (-12.0, 100)])
def test_the_cells_of_an_lstm_with_closed_gates_keep_the_product_of_f(bias, steps, rng):
    cell, params = closed_lstm(bias)
    x = rng.standard_normal((steps, 1, 2))
    ds = gradsim.simulate(cell, x, params=params, record=["block_norm"], pairs=Pairs(sources=(0,)))
    log10 = ds.block_norm_log10.sel(to_block="c", from_block="c")[:, 0, 0]
    expected = 0.5 * np.log10(3) - np.arange(steps + 1) * np.log10(1 + np.exp(-bias))
    np.testing.assert_allclose(log10, expected, rtol=1e-12)
    if bias < 0:
        assert log10[-1] < -500
        assert ds.block_norm.sel(to_block="c", from_block="c")[-1, 0, 0] == 0
    # Nothing that was in h is still there.
    assert float(ds.block_norm.sel(from_block="h")[1:].max()) == 0


PATHED = {
    "lstm": LSTM(2, 3),
    "gru": GRU(2, 3),
    "stack": Stack((LSTM(2, 3), GRU(3, 2))),
    "diagonal": MinGRU(2, 3),
    "wrapped": Leaky(LSTM(2, 3), rate=0.5),
}


@pytest.mark.parametrize("cell", PATHED.values(), ids=PATHED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_shares_of_the_paths_sum_to_the_step_jacobian(cell, dtype, x, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)  # several segments
    ds = gradsim.simulate(cell, x, record=["path_jacobian", "path_norm", "step_jacobian"], dtype=dtype, rng=0)
    assert tuple(ds.path.values) == ("direct", *cell.paths)
    digits = 1e-12 if dtype == "float64" else 1e-5
    np.testing.assert_allclose(ds.path_jacobian.sum("path"), ds.step_jacobian, rtol=digits, atol=digits)
    dims = ds.step_jacobian.dims[2:]
    norm = np.sqrt((ds.path_jacobian**2).sum(dims))
    np.testing.assert_allclose(ds.path_norm, norm, rtol=digits, atol=digits)


@pytest.mark.parametrize(("scale", "dtype"), [(1e-180, "float64"), (1e-30, "float32")])
def test_path_norms_whose_squares_leave_the_range_are_right(scale, dtype, x):
    cell = LSTM(2, 3, recurrent_scale=scale)
    ds = gradsim.simulate(cell, x, record=["path_jacobian", "path_norm"], dtype=dtype, rng=0)
    shares = ds.path_jacobian.astype(np.longdouble)
    sizes = np.sqrt((shares**2).sum(shares.dims[-2:]))
    assert ((sizes > 0) & (sizes < scale)).any()
    np.testing.assert_allclose(ds.path_norm, sizes.astype(float), rtol=1e-6)


@pytest.mark.parametrize("name", ["path_jacobian", "path_norm", "path_product_norm", "gate"])
def test_a_cell_without_paths_has_none_to_record(name, x):
    with pytest.raises(InputError, match=f"Elman.* has no paths for the recorder {name}: tag what"):
        gradsim.simulate(Elman(2, 3), x, record=[name])


def test_the_direct_way_through_an_lstm_is_that_of_its_forget_gate(x):
    cell = LSTM(2, 3)
    ds = gradsim.simulate(cell, x, record=["path_product_norm", "gate", "path_jacobian"], rng=0)
    f, o = (ds.gate.sel(path=path).values for path in ("forget", "output"))
    through_cells = np.cumprod(f, axis=0)
    direct = ds.path_jacobian.sel(path="direct").values
    np.testing.assert_allclose(np.diagonal(direct[..., 3:, 3:], axis1=-2, axis2=-1), f, rtol=1e-12)
    # dh_t/dc_0 is what the last step reads of the cells.
    read = np.diagonal(direct[..., :3, 3:], axis1=-2, axis2=-1) / f
    expected = np.sqrt((through_cells**2).sum(-1) + ((read * through_cells) ** 2).sum(-1))
    found = ds.path_product_norm.sel(path="direct")
    np.testing.assert_allclose(found[1:], expected, rtol=1e-12)
    np.testing.assert_allclose(found[0], np.sqrt(6))
    assert ((o > 0) & (o < 1)).all()


@pytest.mark.parametrize("cell", PATHED.values(), ids=PATHED)
def test_ways_of_one_path_are_products_of_steps_with_the_others_closed(cell, x, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)
    record = ["path_product_norm", "path_jacobian", "step_jacobian", "state"]
    ds = gradsim.simulate(cell, x, record=record, rng=0)
    first = cell.paths[0]  # which is opened first, so that its share is what it adds to the direct one
    shares = ds.path_jacobian.sel(path=["direct", first]).sum("path").values
    shares = shares[:, :, None] if cell.jacobian_groups == 1 else shares
    product = np.eye(shares.shape[-1])
    for t, step in enumerate(shares, 1):
        product = step @ product
        expected = np.sqrt((product**2).sum((-1, -2, -3)))
        np.testing.assert_allclose(ds.path_product_norm.sel(path=first)[t], expected, rtol=1e-10, atol=1e-14)


def test_ways_of_one_path_beyond_the_range_of_floats(rng):
    cell, params = closed_lstm(-12.0)
    ds = gradsim.simulate(cell, rng.standard_normal((100, 1, 2)), params=params, record=["path_product_norm"])
    slope = np.diff(ds.path_product_norm_log10.sel(path="direct")[1:, 0])
    np.testing.assert_allclose(slope, -np.log10(1 + np.exp(12)), rtol=2e-2)
    assert ds.path_product_norm_log10[-1].min() < -500


def test_the_gates_of_an_lstm_are_those_of_its_equations(x):
    cell = LSTM(2, 3)
    params = cell.init_params(np.random.default_rng(1))
    ds = gradsim.simulate(cell, x, params=params, record=["gate", "state"])
    assert ds.gate.dims == ("step", "batch", "path", "unit")
    h = ds.state.values[:-1, :, :3]
    sums = x @ params["W"].T + h @ params["U"].T + params["b"]
    for i, (path, squash) in enumerate(zip(cell.paths, (sigmoid, sigmoid, np.tanh, sigmoid), strict=True)):
        np.testing.assert_allclose(ds.gate.sel(path=path), squash(sums[..., 3 * i : 3 * i + 3]), rtol=1e-12)


def test_gates_of_layers_lie_side_by_side(x):
    lower, upper = LSTM(2, 3), LSTM(3, 4)
    stack = Stack((lower, upper))
    params = stack.init_params(np.random.default_rng(1))
    ds = gradsim.simulate(stack, x, params=params, record=["gate", "state"])
    h = ds.state.isel(component=range(3)).values[1:]
    for cell, inputs, units, prefix in (
        (lower, x, slice(0, 3), "layer0_"),
        (upper, h, slice(3, 7), "layer1_"),
    ):
        own = {n: params[prefix + n] for n in ("W", "U", "b")}
        alone = gradsim.simulate(cell, inputs, params=own, record=["gate"])
        np.testing.assert_allclose(ds.gate[..., units], alone.gate, rtol=1e-12)


def test_paths_of_fewer_units_leave_the_others_empty(x):
    stack = Stack((LSTM(2, 3), GRU(3, 2)))
    ds = gradsim.simulate(stack, x, record=["gate"], rng=0)
    counts = ds.gate.notnull()[0, 0].sum("unit").values
    assert dict(zip(ds.path.values, counts, strict=True)) == {
        "direct": 0,
        "input": 3,
        "forget": 3,
        "candidate": 5,
        "output": 3,
        **{path: 2 for path in GRU(3, 2).paths if path != "candidate"},
    }


@pytest.mark.parametrize(
    ("c", "steps", "expected"),
    [
        (1.0, 10, 0.1494601871728485),
        (1.0, 100, 0.0156296551047677),
        (0.9, 50, 0.11191575611866693),
        (1.1, 50, 0.001627196796398687),
    ],
)
def test_how_parallelizable_a_rotation_is(c, steps, expected, rng, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)  # several segments
    cell = Linear(2, 4)
    params = cell.init_params(rng)
    params["U"] = c * np.linalg.qr(rng.standard_normal((4, 4)))[0]
    ds = gradsim.simulate(
        cell, rng.standard_normal((steps, 3, 2)), params=params, record=["parallelizability"]
    )
    np.testing.assert_allclose(ds.parallelizability, [expected] * 3, rtol=1e-11)
    np.testing.assert_allclose(ds.parallelizability_log10, [np.log10(expected)] * 3, rtol=1e-11)


def moved(x, place, by):
    return x + by * (np.arange(x.size) == np.ravel_multi_index(place, x.shape)).reshape(x.shape)


SEEN = {"states": GRU(3, 4), "inputs by the output": SRU(4), "diagonal": LRU(3, 3)}


@pytest.mark.parametrize("cell", SEEN.values(), ids=SEEN)
@pytest.mark.parametrize("several", [False, True])
def test_the_adjoint_of_an_input_is_the_slope_of_the_loss(cell, several, rng, monkeypatch):
    cell = replace(cell)  # what is planned for a cell is planned once
    if several:
        monkeypatch.setattr(segments, "_STATE_BYTES", 8)
    x, h = rng.standard_normal((12, 2, cell.input_size)), 1e-5
    ds = gradsim.simulate(cell, x, record=["input_adjoint", "effective_input_adjoint"], rng=0)
    assert ds.input_adjoint.dims == ("step", "batch", "input")
    np.testing.assert_array_equal(ds.input_adjoint, ds.effective_input_adjoint)
    for place in ((0, 0, 0), (5, 1, 2), (11, 0, 1)):
        low, high = (
            gradsim.simulate(cell, moved(x, place, by), record=["loss"], rng=0).attrs["loss"]
            for by in (-h, h)
        )
        assert ds.input_adjoint.values[place] == pytest.approx((high - low) / (2 * h), rel=1e-6, abs=1e-10)


SUMMED = {
    "gru": (GRU(3, 4), FlipFlop(length=30)),
    "output": (SRU(3), FlipFlop(length=30)),
    "diagonal": (LRU(3, 3), FlipFlop(length=30)),
    "stack": (Stack((LSTM(3, 2), GRU(2, 3))), FlipFlop(length=30)),
}


@pytest.mark.parametrize(("cell", "task"), SUMMED.values(), ids=SUMMED)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_the_gradient_of_a_sequence_is_that_of_a_run_with_it_alone(cell, task, dtype, monkeypatch):
    monkeypatch.setattr(segments, "_STATE_BYTES", 8)
    params = {**cell.init_params(np.random.default_rng(3))}
    setting = dict(task=task, params=params, dtype=dtype, rng=7)
    ds = gradsim.simulate(cell, batch=3, record=["gradient_norm_by_sequence", "gradient_norm"], **setting)
    digits = 1e-9 if dtype == "float64" else 1e-3
    log10 = np.log10(ds.gradient_norm_by_sequence)
    np.testing.assert_allclose(ds.gradient_norm_by_sequence_log10, log10, atol=1e-12)
    # The norm of a sum is at most the sum of the norms, and it is the same where there is one.
    total = ds.gradient_norm_by_sequence.sum("batch")
    assert (ds.gradient_norm <= total * (1 + digits)).all()
    alone = gradsim.simulate(cell, batch=1, record=["gradient_norm_by_sequence", "gradient_norm"], **setting)
    np.testing.assert_allclose(alone.gradient_norm_by_sequence[0], alone.gradient_norm, rtol=digits)


def test_the_gradient_of_each_sequence_of_a_batch(x):
    cell = LSTM(2, 3)
    params = cell.init_params(np.random.default_rng(3))
    ds = gradsim.simulate(cell, x, params=params, record=["gradient_norm_by_sequence"])
    for b in range(2):
        alone = gradsim.simulate(cell, x[:, b : b + 1], params=params, record=["gradient_norm"])
        np.testing.assert_allclose(2 * ds.gradient_norm_by_sequence[b], alone.gradient_norm, rtol=1e-12)


def test_gradients_of_sequences_of_very_different_sizes(rng):
    """An adjoint of 1e-500 beside one of order 1: each sequence has an exponent of its own."""
    cell = Linear(1, 1)
    params = {"U": np.ones((1, 1)), "W": np.full((1, 1), 1e-200)}
    x = np.ones((20, 2, 1)) * np.array([1.0, 1e-200])[:, None]
    ds = gradsim.simulate(cell, x, params=params, record=["gradient_norm_by_sequence"])
    np.testing.assert_allclose(ds.gradient_norm_by_sequence.sel(param="W"), [10, 10e-200], rtol=1e-12)
