"""Lyapunov exponents against exact and published values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

import gradsim
from gradsim import Cell
from gradsim.engine.lyapunov import exponents
from gradsim_cells import Linear

CAT = np.array([[2.0, 1.0], [1.0, 1.0]])


def exponents_of(matrix, steps):
    return exponents(np.broadcast_to(matrix, (steps, 1, 1, *matrix.shape)))[0]


def test_arnold_cat_map():
    """+-ln((3 + sqrt 5)/2); the error is C/n, so Richardson gives nine digits."""
    exact = np.log((3 + np.sqrt(5)) / 2)
    near, far = exponents_of(CAT, 500), exponents_of(CAT, 1000)
    np.testing.assert_allclose(far, [exact, -exact], atol=2e-4)
    np.testing.assert_allclose((1000 * far - 500 * near) / 500, [exact, -exact], atol=1e-9)


def test_exponents_add_up_to_the_log_determinant(rng):
    blocks = rng.standard_normal((200, 2, 3, 4, 4))
    _, logdet = np.linalg.slogdet(blocks)
    np.testing.assert_allclose(exponents(blocks).sum(axis=1), logdet.sum(axis=2).mean(axis=0), rtol=1e-12)


def test_scaled_rotation(rng):
    q, _ = np.linalg.qr(rng.standard_normal((7, 7)))
    params = {"W": 0.8 * q, "U": np.zeros((7, 1))}
    ds = gradsim.simulate(Linear(1, 7), np.zeros((50, 1, 1)), params=params, record=["lyapunov"])
    np.testing.assert_allclose(ds.lyapunov, np.log(0.8), rtol=1e-12)


@dataclass(frozen=True, eq=False)
class Henon(Cell):
    """x' = 1 - 1.4 x^2 + y, y' = 0.3 x, as a cell with nothing but its step."""

    name = "henon"
    input_size: int = 1

    @property
    def blocks(self):
        return {"x": 1, "y": 1}

    def init_params(self, rng):
        return {"a": np.array(1.4), "b": np.array(0.3)}

    def step(self, params, state, inputs, xp):
        x, y = self.split(state)
        return xp.concatenate((1 - params["a"] * x * x + y, params["b"] * x), axis=-1)


def test_henon_map():
    """Sprott, Chaos and Time-Series Analysis (2003): 0.41922, -1.62319; the sum is ln 0.3 exactly."""
    ds = gradsim.simulate(
        Henon(),
        np.zeros((20_000, 4, 1)),
        initial_state=[[0.1, 0.1], [0.2, 0], [0, 0], [-0.1, 0.2]],
        record=["lyapunov"],
    )
    np.testing.assert_allclose(ds.lyapunov.sum("mode"), np.log(0.3), atol=1e-12)
    assert ds.lyapunov.mean("batch")[0].item() == pytest.approx(0.41922, abs=5e-3)


def test_products_of_ginibre_matrices(rng):
    """Newman (1986): lambda_i = (ln(2/N) + psi((N - i + 1)/2)) / 2, steps independent."""
    exact = np.array([-0.13518142, -0.3283286, -0.63518142, -1.3283286])
    spread = np.array([0.40154, 0.48343, 0.64127, 1.11072])
    steps = 20_000
    found = exponents(rng.standard_normal((steps, 1, 1, 4, 4)) / 2)[0]
    assert (np.abs(found - exact) < 5 * spread / np.sqrt(steps)).all()
