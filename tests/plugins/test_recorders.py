"""The recorders that answer by block, path, gate and sequence, each against its definition."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.testing.specimen import Elementwise
from gradsim_cells import GRU, LRU, LSTM, Elman, Stack
from gradsim_mitigations import Truncate

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
