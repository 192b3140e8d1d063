"""The gradient of dense cells by a compiled product, next to that of NumPy in float64."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from probes.cells import Coupled, Peephole

from gradsim.contracts.dense.gradient import Gradient
from gradsim.contracts.dense.weights import weights_of
from gradsim.contracts.trajectory import one_by_one
from gradsim_cells import GRU, LSTM, Elman

CLOSE = {"float64": 1e-14, "float32": 2e-6}
SIZES = [1, 8, 33, 64]


def made(cell, dtype, steps, batch, parallel=one_by_one, laid=np.ascontiguousarray):
    """Ours, and one product for each term in float64."""
    rng = np.random.default_rng(0)
    params = {n: p.astype(dtype) for n, p in cell.init_params(rng).items()}
    weights = weights_of(cell, params)
    shapes = {"d": cell.sums * cell.units, "s": cell.state_size, "x": cell.input_size}
    d, s, x = (rng.standard_normal((steps, batch, n)).astype(dtype) for n in shapes.values())
    h = s[..., : cell.units]
    found = {n: np.zeros_like(p) for n, p in params.items()}
    Gradient(weights, *map(laid, (d, h, x))).fill(found, parallel)
    expected = {n: np.zeros(p.shape) for n, p in params.items()}
    for term in weights.terms:
        factor = {"h": h, "x": x, "1": np.ones((steps, batch, 1))}[term.factor].astype(float)
        product = np.tensordot(d[..., term.columns].astype(float), factor, ((0, 1), (0, 1)))
        expected[term.param][term.rows] = product[:, 0] if term.factor == "1" else product
    return found, expected


@pytest.mark.parametrize("dtype", CLOSE)
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("cell", [Elman, GRU, LSTM, Coupled, Peephole])
def test_it_is_the_product_of_cotangents_and_factors(cell, size, dtype):
    for steps, batch in ((1, 1), (3, 2), (50, 7)):
        found, expected = made(cell(input_size=2, hidden_size=size), dtype, steps, batch)
        for name, value in expected.items():
            scale = CLOSE[dtype] * np.sqrt(steps * batch) * np.abs(value).max()
            np.testing.assert_allclose(found[name], value, rtol=0, atol=scale)


@pytest.mark.parametrize("laid", [np.asfortranarray, lambda x: np.flip(np.flip(x).copy())])
@pytest.mark.parametrize(("steps", "batch"), [(50, 1), (3, 2)])
def test_any_layout_will_do(laid, steps, batch):
    found, _ = made(LSTM(2, 33), "float64", steps, batch, laid=laid)
    expected, _ = made(LSTM(2, 33), "float64", steps, batch)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_long_sums_lose_little_in_float32():
    found, expected = made(Elman(2, 32), "float32", 3000, 8)
    assert np.abs(found["W"] - expected["W"]).max() < 5e-7 * np.sqrt(3000 * 8) * 4


def test_no_bit_depends_on_threads():
    with ThreadPoolExecutor(3) as pool:
        at_once, _ = made(LSTM(2, 40), "float32", 20, 5, lambda jobs: list(pool.map(lambda job: job(), jobs)))
    alone, _ = made(LSTM(2, 40), "float32", 20, 5)
    for name, value in alone.items():
        np.testing.assert_array_equal(at_once[name], value)
