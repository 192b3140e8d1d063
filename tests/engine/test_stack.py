"""Products of a tile: norms and singular values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Cell, Pairs
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_mitigations import Truncate


def test_singular_values_of_a_scaled_rotation_are_its_scale(rng):
    q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    params = {"U": 0.9 * q, "W": np.zeros((8, 1))}
    ds = gradsim.simulate(Linear(1, 8), np.zeros((30, 1, 1)), params=params, record=["product_spectrum"])
    np.testing.assert_allclose(ds.product_spectrum[-1, 0, 0], 0.9**30, rtol=1e-11)


def test_values_below_rounding_are_not_invented(rng):
    """The small singular values of U^40 are lost in a product; they must not look like results."""
    params = {"U": np.diag([1.0, 0.1]), "W": np.zeros((2, 1))}
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    params["U"] = rotation @ params["U"] @ rotation.T
    ds = gradsim.simulate(
        Linear(1, 2), np.zeros((40, 1, 1)), params=params, record=["product_spectrum", "lyapunov"]
    )
    assert ds.product_spectrum[-1, 0, 0, 0].item() == pytest.approx(1)
    assert np.isnan(ds.product_spectrum[-1, 0, 0, 1])
    assert ds.lyapunov[0, 1].item() == pytest.approx(np.log(0.1), rel=2e-2)


def test_diagonal_units_keep_ranges_of_their_own():
    """A unit that has long vanished still has a direction beside one that has not."""
    cell = MinGRU(input_size=1, hidden_size=2)
    params = {"W": np.zeros((4, 1)), "b": np.array([-40.0, 5.0, 0, 0])}
    ds = gradsim.simulate(cell, np.zeros((400, 1, 1)), params=params, record=["product_spectrum"])
    expected = 400 * np.log10(1 - 1 / (1 + np.exp(-5)))
    assert ds.product_spectrum_log10[-1, 0, 0, 1].item() == pytest.approx(expected, rel=1e-10)


each_cell = pytest.mark.parametrize(
    "cell", [GRU(2, 3), LRU(2, 3), LSTM(2, 4), Elman(2, 24)], ids=lambda c: c.name
)


@each_cell
@pytest.mark.parametrize(("dtype", "tolerance"), [("float64", 1e-10), ("float32", 1e-6)])
def test_spectral_norm_is_the_largest_singular_value(cell, dtype, tolerance, rng):
    """Also where it is 1e-12 and less, and exactly 0 where nothing is left."""
    record = ["product_spectral_norm", "jacobian_product"]
    setting = {"record": [*record, "effective_product_spectral_norm"], "mitigations": [Truncate(5, 9)]}
    ds = gradsim.simulate(cell, rng.standard_normal((40, 2, 2)), dtype=dtype, rng=1, **setting)
    t, k = np.tril_indices(41)
    product = ds.jacobian_product.values[t, k].astype(float)
    largest = np.linalg.svd(product, compute_uv=False)[..., 0].reshape(len(t), 2, -1).max(axis=-1)
    np.testing.assert_allclose(ds.product_spectral_norm.values[t, k], largest, rtol=tolerance)
    effective = ds.effective_product_spectral_norm.values
    assert (effective[40, :30] == 0).all()
    np.testing.assert_array_equal(effective[40, 35:], ds.product_spectral_norm.values[40, 35:])


@pytest.mark.parametrize("scale", [1e-9, 1e9])
@pytest.mark.parametrize("size", [3, 4, 6])
def test_step_jacobians_that_are_scaled_themselves_have_the_norms_of_their_products(size, scale, rng):
    """In a band of lags, where products are walked: their norms while no product is moved into range."""
    weight = np.float32(scale * rng.standard_normal((size, size)))
    params = {"U": weight, "W": np.zeros((size, 1))}
    setting = {"record": ["product_norm"], "pairs": Pairs(max_lag=4), "dtype": "float32"}
    ds = gradsim.simulate(Linear(1, size), np.zeros((6, 1, 1)), params=params, **setting)
    for lag in range(5):
        power = np.linalg.matrix_power(weight.astype(float), lag)
        np.testing.assert_allclose(ds.product_norm[0, lag, 0], np.linalg.norm(power), rtol=1e-5)


@dataclass(frozen=True, eq=False)
class Driven(Cell):
    """s_t = x_t * s_{t-1}: step Jacobians are the inputs."""

    name = "driven"
    input_size: int = 2

    @property
    def blocks(self):
        return {"s": self.input_size}

    @property
    def jacobian_groups(self):
        return self.input_size

    def init_params(self, rng):
        return {"one": np.ones(1)}

    def step(self, params, state, inputs, xp):
        return params["one"] * inputs * state


def test_a_group_that_has_become_zero_holds_up_no_other():
    """One unit grows to 2^120 and is then annihilated; of the other one 2^-t is left."""
    inputs = np.array([[2.0**12, 0.5]] * 10 + [[0.0, 0.5]] + [[1.0, 0.5]] * 4)[:, None]
    setting = {"pairs": Pairs(sources=(0,)), "record": ["product_norm"], "dtype": "float32"}
    ds = gradsim.simulate(Driven(), inputs, **setting)
    expected = np.append(12.0 * np.arange(11), -np.arange(11, 16)) * np.log10(2)
    expected[0] = np.log10(2) / 2
    np.testing.assert_allclose(ds.product_norm_log10[:, 0, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("scale", [1e-3, 1e3])
@pytest.mark.parametrize("size", [4, 6])
def test_walked_products_beyond_the_range_keep_their_norms(size, scale, rng):
    q, _ = np.linalg.qr(rng.standard_normal((size, size)))
    params = {"U": scale * q, "W": np.zeros((size, 1))}
    setting = {"pairs": Pairs(max_lag=25), "record": ["product_norm"], "dtype": "float32"}
    ds = gradsim.simulate(Linear(1, size), np.zeros((30, 1, 1)), params=params, **setting)
    expected = np.log10(scale) * np.arange(26) + np.log10(size) / 2
    np.testing.assert_allclose(ds.product_norm_log10[2, :, 0], expected, rtol=1e-6)
