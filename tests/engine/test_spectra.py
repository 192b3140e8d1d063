"""Lyapunov exponents and singular values of systems that others have measured or solved."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Cell, Pairs, analysis
from gradsim.engine.lyapunov import LyapunovSum, exponents
from gradsim.errors import InputError
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear
from gradsim_mitigations import Truncate

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
    params = {"W": q @ np.diag(moduli * [1, -1, 1, -1, 1, -1]) @ q.T, "U": np.zeros((6, 1))}
    setting = {"params": params, "record": ["product_spectrum", "lyapunov"], "pairs": Pairs(lags=(1, 5, 20))}
    late, early = (gradsim.simulate(Linear(1, 6), np.zeros((n, 1, 1)), **setting) for n in (600, 300))
    for lag in (1, 5, 20):
        values = late.product_spectrum.sel(lag=lag, source=3, batch=0)
        np.testing.assert_allclose(values, moduli**lag, rtol=1e-9)
    rate = (600 * late.lyapunov - 300 * early.lyapunov)[0] / 300
    np.testing.assert_allclose(rate, np.log(moduli), atol=1e-8)


RECORD = [
    "jacobian_product",
    "product_norm",
    "product_spectrum",
    "product_spectral_norm",
    "loss_adjoint_norm",
]
SETTING = {
    "record": [*RECORD, "effective_jacobian_product", "effective_product_norm"],
    "mitigations": [Truncate(5, 9)],
    "rng": 0,
}
each_cell = pytest.mark.parametrize(
    "cell", [GRU(2, 3), LRU(2, 3), LSTM(2, 4), Elman(2, 24)], ids=lambda c: c.name
)


@each_cell
@pytest.mark.parametrize("sources", [None, (0, 3, 40)])
@pytest.mark.parametrize("lags", [(1, 10, 50), (0,), (60,), (7, 3)])
def test_chosen_lags_are_those_of_all(cell, sources, lags, rng):
    inputs = rng.standard_normal((60, 3, 2))
    band = gradsim.simulate(cell, inputs, pairs=Pairs(max_lag=60, sources=sources), **SETTING)
    chosen = gradsim.simulate(cell, inputs, pairs=Pairs(lags=lags, sources=sources), **SETTING)
    assert chosen.lag.values.tolist() == sorted(lags)
    for name in chosen.data_vars:
        wanted = band[name].sel(lag=sorted(lags)) if "lag" in band[name].dims else band[name]
        np.testing.assert_allclose(chosen[name], wanted, rtol=1e-10, atol=1e-14, err_msg=name)


@each_cell
def test_chosen_lags_in_a_store(cell, rng, tmp_path):
    inputs = rng.standard_normal((60, 3, 2))
    setting = {**SETTING, "pairs": Pairs(lags=(1, 10, 50))}
    in_memory = gradsim.simulate(cell, inputs, **setting)
    stored = gradsim.simulate(cell, inputs, store=tmp_path / "run", **setting)
    xr.testing.assert_identical(stored.load(), in_memory)
    xr.testing.assert_identical(gradsim.open_run(tmp_path / "run").load(), in_memory)


def test_counts_of_chosen_lags():
    """Each source is multiplied up to its longest lag that fits into the run."""
    inputs = np.zeros((60, 1, 2))
    problem = gradsim.prepare(Elman(2, 4), inputs, pairs=Pairs(lags=(1, 10, 50))).plan.problem
    assert problem.pair_count == 60 + 51 + 11
    assert problem.product_count == 11 * 50 + 40 * 10 + 9
    assert problem.sizes()["lag"] == 3


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        ({"lags": (1, -2)}, r"pairs: lags should name at least one, 0 or more each \(got \[1, -2\]\)"),
        ({"lags": ()}, r"pairs: lags should name at least one, 0 or more each \(got \[\]\)"),
        ({"lags": (1, 61)}, r"pairs: lags should lie in 0..60 \(got \[1, 61\]\)"),
        ({"lags": (1,), "max_lag": 3}, "pairs: give max_lag or lags, not both"),
        ({"lags": (1,), "times": (3,)}, "pairs: give lags or times, not both"),
    ],
)
def test_lags_that_cannot_be(pairs, message):
    with pytest.raises(InputError, match=message):
        gradsim.simulate(Elman(2, 4), np.zeros((60, 1, 2)), pairs=Pairs(**pairs))


def test_analysis_of_chosen_lags(rng):
    """Of a scaled rotation every norm is a power, so every analysis has a closed form."""
    q, _ = np.linalg.qr(rng.standard_normal((4, 4)))
    params = {"W": 0.9 * q, "U": np.zeros((4, 1))}
    pairs = Pairs(lags=(0, 10, 30, 50))
    ds = gradsim.simulate(Linear(1, 4), np.zeros((200, 2, 1)), params=params, pairs=pairs)
    exact = np.array([0, 10, 30, 50]) * np.log10(0.9) + np.log10(2)
    summary = analysis.norm_by_lag(ds)
    np.testing.assert_allclose(summary["median"], exact, rtol=1e-10)
    assert summary["count"].values.tolist() == [402, 382, 342, 302]
    assert analysis.by_lag(ds).lag.values.tolist() == [0, 10, 30, 50]
    assert analysis.decay_rate(ds).rate.item() == pytest.approx(np.log(0.9), rel=1e-10)
    one = ds.isel(source=[0])
    assert analysis.decay_rate(one, lags=(10, 50)).rate.item() == pytest.approx(np.log(0.9), rel=1e-10)
    horizon = analysis.horizon(ds, 0.1).horizon.item()
    assert horizon == pytest.approx(np.log(0.1) / np.log(0.9), rel=1e-10)


def test_a_rate_needs_two_lags(rng):
    ds = gradsim.simulate(Elman(2, 4), rng.standard_normal((60, 1, 2)), pairs=Pairs(lags=(0, 10, 50)))
    with pytest.raises(InputError, match=r"lags=\(20, 45\) holds 0 of the recorded lags 0, 10, 50"):
        analysis.decay_rate(ds, lags=(20, 45))


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
