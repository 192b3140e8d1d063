"""Lyapunov exponents against exact, measured and published values."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import Henon
from loops.reference import exact_exponents
from threadpoolctl import threadpool_limits

import gradsim
from gradsim import Cell, Pairs
from gradsim.engine.lyapunov import LyapunovSum, exponents, graded_factors
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU

STEP = 0.01


@dataclass(frozen=True, eq=False)
class Lorenz(Cell):
    """x' = 10 (y - x), y' = x (28 - z) - y, z' = x y - 8/3 z; a step is one of Runge and Kutta's of 0.01."""

    name = "lorenz"
    input_size: int = 1

    @property
    def blocks(self):
        return {"x": 1, "y": 1, "z": 1}

    def init_params(self, rng):
        return {"sigma": np.array(10.0), "rho": np.array(28.0), "beta": np.array(8 / 3)}

    def step(self, params, state, inputs, xp):
        def slope(s):
            x, y, z = self.split(s)
            dx = params["sigma"] * (y - x)
            dy = x * (params["rho"] - z) - y
            return xp.concat((dx, dy, x * y - params["beta"] * z), axis=-1)

        a = slope(state)
        b = slope(state + STEP / 2 * a)
        c = slope(state + STEP / 2 * b)
        return state + STEP / 6 * (a + 2 * b + 2 * c + slope(state + STEP * c))


def lorenz_exponents(steps, batch, rng):
    """Per unit of time, the mean over the batch, once the attractor and the directions are found."""
    x = np.zeros((steps + 2000, batch, 1))
    start = rng.standard_normal((batch, 3)) * [8, 8, 8] + [0, 0, 24]
    ds = gradsim.simulate(Lorenz(), x, initial_state=start, record=["step_jacobian"])
    blocks = ds.step_jacobian.values[:, :, None]
    growth = LyapunovSum(batch, 1, 3)
    growth.add(blocks[:2000])
    before = 2000 * growth.exponents()
    growth.add(blocks[2000:])
    return ((len(blocks) * growth.exponents() - before) / steps).mean(axis=0) / STEP


def test_lorenz_system(rng):
    """Sprott, Chaos and Time-Series Analysis (2003): 0.9056, 0, -14.5723; the sum is -41/3."""
    found = lorenz_exponents(4000, 40, rng)
    assert found.sum() == pytest.approx(-41 / 3, abs=5e-4)
    np.testing.assert_allclose(found, [0.9056, 0, -14.5723], atol=0.03)


@pytest.mark.long
def test_lorenz_system_for_long(rng):
    found = lorenz_exponents(60_000, 8, rng)
    assert found.sum() == pytest.approx(-41 / 3, abs=2e-4)
    np.testing.assert_allclose(found, [0.9056, 0, -14.5723], atol=0.01)


def test_products_of_large_ginibre_matrices(rng):
    """Newman (1986): lambda_i = (ln(2/N) + psi(z)) / 2 with z = (N - i + 1)/2, spread sqrt(psi'(z)) / 2."""
    size, steps = 48, 400
    twice = np.arange(size, 0, -1)
    found = exponents(rng.standard_normal((steps, 1, 1, size, size)) / np.sqrt(size))[0]
    score = (found - (np.log(2 / size) + psi(twice)) / 2) / np.sqrt(trigamma(twice) / 4 / steps)
    assert np.abs(score).max() < 5
    assert 0.5 < np.sqrt(np.mean(score**2)) < 1.5


def psi(twice):
    """The digamma function at integers over 2, from its recurrence."""
    half = np.concatenate([[-np.euler_gamma - 2 * np.log(2)], 2 / np.arange(1, 2 * len(twice), 2)])
    whole = np.concatenate([[-np.euler_gamma], 1 / np.arange(1, len(twice))])
    return np.where(twice % 2, np.cumsum(half)[twice // 2], np.cumsum(whole)[twice // 2 - 1])


def trigamma(twice):
    """Its derivative."""
    half = np.concatenate([[np.pi**2 / 2], -4 / np.arange(1.0, 2 * len(twice), 2) ** 2])
    whole = np.concatenate([[np.pi**2 / 6], -1 / np.arange(1.0, len(twice)) ** 2])
    return np.where(twice % 2, np.cumsum(half)[twice // 2], np.cumsum(whole)[twice // 2 - 1])


def test_normal_matrix(rng):
    """Singular values are powers of the moduli of the eigenvalues; exponents, late, their logarithms."""
    moduli = np.linspace(1.1, 0.6, 6)
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    params = {"U": q @ np.diag(moduli * [1, -1, 1, -1, 1, -1]) @ q.T, "W": np.zeros((6, 1))}
    setting = {"params": params, "record": ["product_spectrum", "lyapunov"], "pairs": Pairs(lags=(1, 5, 20))}
    late, early = (gradsim.simulate(Linear(1, 6), np.zeros((n, 1, 1)), **setting) for n in (600, 300))
    for lag in (1, 5, 20):
        values = late.product_spectrum.sel(lag=lag, source=3, batch=0)
        np.testing.assert_allclose(values, moduli**lag, rtol=1e-9)
    rate = (600 * late.lyapunov - 300 * early.lyapunov)[0] / 300
    np.testing.assert_allclose(rate, np.log(moduli), atol=1e-8)


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
    np.testing.assert_allclose(exponents(blocks).sum(axis=1), logdet.sum(axis=2).mean(axis=0), rtol=1e-9)


def test_scaled_rotation(rng):
    q, _ = np.linalg.qr(rng.standard_normal((7, 7)))
    params = {"U": 0.8 * q, "W": np.zeros((7, 1))}
    ds = gradsim.simulate(Linear(1, 7), np.zeros((50, 1, 1)), params=params, record=["lyapunov"])
    np.testing.assert_allclose(ds.lyapunov, np.log(0.8), rtol=1e-12)


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


def every_step(blocks):
    """Benettin's algorithm with QR at every step."""
    total, q = np.zeros(blocks.shape[1:-1]), np.eye(blocks.shape[-1])
    for jacobian in blocks.astype(np.float64):
        q, r = np.linalg.qr(jacobian @ q)
        total += np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1)))
    return np.sort((total / len(blocks)).reshape(blocks.shape[1], -1))[:, ::-1]


def ginibre(rng, steps, batch, groups, k):
    return rng.standard_normal((steps, batch, groups, k, k)) / np.sqrt(k)


def along_a_run(cell):
    """Step Jacobians of a cell with random parameters and inputs."""

    def blocks(rng):
        inputs = rng.standard_normal((300, 3, cell.input_size))
        ds = gradsim.simulate(cell, inputs, record=["step_jacobian"], rng=rng)
        k = cell.state_size // cell.jacobian_groups
        return ds.step_jacobian.values.reshape(300, 3, cell.jacobian_groups, k, k)

    return blocks


def rotations(rng, steps=300, k=12):
    return np.linalg.qr(rng.standard_normal((steps, 1, 1, k, k)))[0]


def with_step(*changed):
    """Rotations, and after a long calm these steps."""

    def blocks(rng):
        calm = rotations(rng)
        calm[200 : 200 + len(changed), 0, 0] = changed
        return calm

    return blocks


GRADED = np.diag(np.logspace(0, -9, 12))
TURN = np.linalg.qr(np.random.default_rng(5).standard_normal((12, 12)))[0]
UP = TURN @ np.diag([1e4] * 6 + [1e-5] * 6) @ TURN.T
DOWN = TURN @ np.diag([1e-4] * 6 + [1e5] * 6) @ TURN.T
REGIMES = {
    "elman": along_a_run(Elman(2, 24)),
    "chaotic elman": along_a_run(Elman(2, 24, recurrent_scale=3.0)),
    "lstm": along_a_run(LSTM(2, 12)),
    "gru": along_a_run(GRU(2, 20)),
    "lru": along_a_run(LRU(2, 6)),
    "min_gru": along_a_run(MinGRU(2, 6)),
    "large": lambda rng: ginibre(rng, 40, 1, 1, 128),
    "middle": lambda rng: ginibre(rng, 300, 2, 1, 40),
    "pairs": lambda rng: ginibre(rng, 300, 3, 40, 2),
    "numbers": lambda rng: ginibre(rng, 300, 3, 40, 1),
    "one step": lambda rng: ginibre(rng, 1, 2, 3, 5),
    "seven steps": lambda rng: ginibre(rng, 7, 2, 3, 5),
    "orthogonal": rotations,
    "float32": lambda rng: ginibre(rng, 300, 2, 1, 16).astype(np.float32),
    "contracting": lambda rng: 1e-30 * ginibre(rng, 300, 2, 1, 12),
    "vanishing": lambda rng: 1e-140 * ginibre(rng, 50, 2, 1, 12),
    "exploding": lambda rng: 1e140 * ginibre(rng, 50, 2, 1, 12),
    "graded step": with_step(GRADED),
    "step and inverse": with_step(UP, DOWN),
    "nearly singular step": with_step(1e-9 * np.eye(12) + np.ones((12, 12))),
}


@pytest.fixture(params=["1", "0"], ids=["compiled", "numpy"])
def ways(request, monkeypatch):
    """With the compiled kernel, where numba is installed, and without; BLAS on one thread, as in a run."""
    monkeypatch.setenv("GRADSIM_COMPILED", request.param)
    with threadpool_limits(1):
        yield


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("regime", REGIMES)
def test_seldom_factors_give_the_exponents_of_every_step(regime, rng):
    blocks = REGIMES[regime](rng)
    np.testing.assert_allclose(exponents(blocks), every_step(blocks), rtol=0, atol=1e-8)


@pytest.mark.usefixtures("ways")
def test_blocks_may_come_in_parts(rng):
    blocks = ginibre(rng, 200, 3, 2, 6)
    growth = LyapunovSum(3, 2, 6)
    for part in np.split(blocks, [1, 50, 51, 130]):
        growth.add(part)
    np.testing.assert_allclose(growth.exponents(), every_step(blocks), rtol=0, atol=1e-8)


def test_threads_do_not_change_a_bit(rng):
    blocks = ginibre(rng, 100, 5, 1, 48)

    def threads(jobs):
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(lambda job: job(), jobs))

    np.testing.assert_array_equal(exponents(blocks, threads), exponents(blocks))


@pytest.mark.usefixtures("ways")
def test_directions_that_are_annihilated(rng):
    """A product has the smallest rank of its factors, here as rows of zeros; only that many are finite."""
    blocks = ginibre(rng, 200, 3, 1, 32) * (rng.random((200, 3, 1, 32, 1)) < 0.9)
    rank = (blocks.any(axis=-1)).sum(axis=-1).min(axis=(0, 2))
    found = exponents(blocks)
    assert (np.isfinite(found).sum(axis=1) == rank).all()
    assert (np.isneginf(found) | np.isfinite(found)).all()


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("k", [2, 3, 5, 12])
def test_a_row_of_zeros_in_one_step_annihilates_one_direction(k, rng):
    """A rectified unit that is off for a step: what rounding leaves of the direction is none."""
    blocks = ginibre(rng, 3, 300, 1, k)
    blocks[rng.integers(3, size=300), np.arange(300), 0, rng.integers(k, size=300)] = 0
    found = np.concatenate(
        [exponents(blocks[:, b : b + 1]) for b in range(100)] + [exponents(blocks[:, 100:])]
    )
    assert np.isneginf(found[:, -1]).all()
    assert np.isfinite(found[:, :-1]).all()


@pytest.mark.usefixtures("ways")
def test_an_annihilated_direction_takes_no_other_along():
    """diag(0, 2, 3) in any order of its components."""
    for diagonal in itertools.permutations([0.0, 2.0, 3.0]):
        np.testing.assert_allclose(
            exponents_of(np.diag(diagonal), 20), [np.log(3), np.log(2), -np.inf], rtol=1e-12
        )
    np.testing.assert_array_equal(exponents_of(np.array([[0.0, 1.0], [0.0, 0.0]]), 20), -np.inf)
    np.testing.assert_array_equal(exponents_of(np.zeros((3, 3)), 20), -np.inf)


def shrunk(rng, k, axis):
    """Rows or columns of some steps times factors down to 1e-30, as of units that are saturated or closed."""
    blocks = rng.standard_normal((20, 1, 1, k, k))
    shape = (4, 1, 1, k, 1) if axis == -2 else (4, 1, 1, 1, k)
    blocks[8:12] *= 10 ** rng.uniform(-30, 0, shape)
    return blocks


@pytest.mark.usefixtures("ways")
@pytest.mark.parametrize("axis", [-2, -1], ids=["rows", "columns"])
@pytest.mark.parametrize("k", [2, 4, 9])
def test_what_saturated_and_closed_units_leave_is_not_lost(k, axis, rng):
    for _ in range(4):
        blocks = shrunk(rng, k, axis)
        exact = -np.sort(-exact_exponents(blocks[:, 0, 0]))
        np.testing.assert_allclose(exponents(blocks)[0], exact, rtol=0, atol=1e-8)


def test_directions_of_a_graded_step(rng):
    """Of fewer the first ones; their sizes multiply to the determinant, below the rounding of the largest."""
    sizes = np.array([1e-25, 3.0, 1e-40, 1e200, 0.5])
    step, frame = sizes[:, None] * ginibre(rng, 1, 2, 3, 5)[0], np.linalg.qr(ginibre(rng, 1, 2, 3, 5)[0])[0]
    basis, growth = graded_factors(step, frame)
    np.testing.assert_allclose(basis.swapaxes(-1, -2) @ basis, [[np.eye(5)] * 3] * 2, atol=1e-14)
    logdet = np.linalg.slogdet(step / sizes[:, None])[1] + np.log(sizes).sum()
    np.testing.assert_allclose(growth.sum(axis=-1), logdet, rtol=1e-12)
    for one, all_of in zip(graded_factors(step, frame[..., :3]), (basis, growth), strict=True):
        np.testing.assert_allclose(one, all_of[..., :3], rtol=1e-12, atol=1e-14)


@pytest.mark.usefixtures("ways")
def test_a_rank_of_one_after_a_long_calm(rng):
    """The product is u v^T times rotations: one direction is left, and grows by |u| |v|."""
    blocks, (u, v) = rotations(rng), rng.standard_normal((2, 12))
    blocks[200, 0, 0] = np.outer(u, v)
    found = exponents(blocks)[0]
    assert np.isneginf(found[1:]).all()
    q = np.linalg.multi_dot(blocks[:200, 0, 0][::-1])[:, 0]
    exact = np.log(np.linalg.norm(u) * abs(v @ q)) / len(blocks)
    assert found[0] == pytest.approx(exact, abs=1e-12)


def test_components_of_very_different_size_stay_apart():
    """A diagonal step is exact, however small its entries are."""
    np.testing.assert_allclose(exponents_of(np.diag([1.0, 1e-20]), 50), [0, np.log(1e-20)], rtol=1e-12)
    np.testing.assert_allclose(exponents_of(np.diag([1e-20, 1.0]), 50), [0, np.log(1e-20)], rtol=1e-12)
