"""Jacobian products: identities, layouts, range, threads."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import gradsim
from gradsim import Pairs
from gradsim.errors import OutOfRangeWarning
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU

CELLS = [Elman(2, 5), GRU(2, 4), LSTM(2, 3), MinGRU(2, 6), LRU(2, 3)]
with_and_without_kernels = pytest.mark.parametrize("compiled", ["0", "1"], ids=["numpy", "compiled"])
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)


@each_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_semigroup(cell, inputs, dtype):
    """P(t, k) = P(t, j) P(j, k), and P(t, t-1) = J_t, P(k, k) = I."""
    ds = gradsim.simulate(cell, inputs, record=["jacobian_product", "step_jacobian"], dtype=dtype)
    p = ds.jacobian_product.values
    assert p.dtype == dtype
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}
    for t, j, k in [(12, 7, 0), (12, 11, 3), (5, 5, 2), (9, 4, 4)]:
        np.testing.assert_allclose(p[t, k], p[t, j] @ p[j, k], **close)
    for t in range(1, 13):
        np.testing.assert_allclose(p[t, t - 1], ds.step_jacobian.sel(step=t), rtol=1e-7)
        assert (p[t, t] == np.eye(p.shape[-1])).all()
        assert np.isnan(p[t - 1, t]).all()


@each_cell
def test_sizes_are_those_of_the_products(cell, inputs):
    record = ["jacobian_product", "product_norm", "product_spectral_norm", "product_spectrum"]
    ds = gradsim.simulate(cell, inputs, record=record)
    p = ds.jacobian_product.values
    if p.ndim == 5:
        p = p[:, :, :, None]
    t, k = np.tril_indices(13)
    blocks = p[t, k]
    np.testing.assert_allclose(
        ds.product_norm.values[t, k], np.sqrt((blocks**2).sum(axis=(-3, -2, -1))), rtol=1e-12
    )
    singular = np.sort(np.linalg.svd(blocks, compute_uv=False).reshape(len(t), 3, -1))[..., ::-1]
    np.testing.assert_allclose(ds.product_spectral_norm.values[t, k], singular[..., 0], rtol=1e-10)
    ours = ds.product_spectrum.values[t, k]
    resolved = ~np.isnan(ours)
    assert resolved[..., 0].all()
    np.testing.assert_allclose(ours[resolved], singular[resolved], rtol=1e-2)
    np.testing.assert_allclose(ds.product_norm_log10, np.log10(ds.product_norm), atol=1e-12)


@each_cell
def test_narrower_pairs_hold_the_same_numbers(cell, inputs):
    record = ["jacobian_product", "product_norm", "loss_adjoint_norm"]
    everything = gradsim.simulate(cell, inputs, record=record)
    chosen = gradsim.simulate(cell, inputs, record=record, pairs=Pairs(times=(-1, 4), sources=(0, 3, 9)))
    band = gradsim.simulate(cell, inputs, record=record, pairs=Pairs(max_lag=3))
    some = gradsim.simulate(cell, inputs, record=record, pairs=Pairs(max_lag=3, sources=(2, 11)))
    assert list(chosen.chosen_time) == [4, 12]
    for name in record:
        whole = everything[name]
        for t, k in [(4, 0), (12, 9), (12, 3)]:
            ours = chosen[name].sel(chosen_time=t, source=k)
            np.testing.assert_allclose(ours, whole.sel(time=t, source=k), rtol=1e-12)
        assert np.isnan(chosen[name].sel(chosen_time=4, source=9)).all()
        for k in range(13):
            for lag in range(4):
                ours = band[name].sel(source=k, lag=lag)
                if k + lag <= 12:
                    np.testing.assert_allclose(ours, whole.sel(time=k + lag, source=k), rtol=1e-12)
                else:
                    assert np.isnan(ours).all()
        np.testing.assert_allclose(some[name], band[name].sel(source=[2, 11]), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.05, 30.0])
def test_two_thousand_steps_beyond_the_range(rng, scale, dtype):
    """Norms of 1e-2600 and 1e+2950 in closed form."""
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    params = {"U": scale * q, "W": np.zeros((6, 1))}
    # What is too large is told, once a variable; what is too small is zero, as everywhere.
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ds = gradsim.simulate(
            Linear(1, 6),
            np.zeros((2000, 2, 1)),
            params=params,
            dtype=dtype,
            record=["product_norm", "product_spectral_norm", "adjoint_norm", "loss_adjoint_norm"],
            pairs=Pairs(sources=(0, 1999)),
        )
    large = scale > 1
    assert [w.category for w in told] == [OutOfRangeWarning] * large
    for name in ds.data_vars:
        assert all(f"{name} (" in str(w.message) for w in told) == (not name.endswith("_log10") or not large)
    exact = np.asarray(params["U"], dtype=dtype).astype(float)
    per_step = np.log10(np.linalg.svd(exact, compute_uv=False).mean())
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    steps = np.arange(2001)
    spectral = ds.product_spectral_norm_log10.sel(source=0, batch=1)
    assert np.isfinite(spectral).all()
    np.testing.assert_allclose(spectral, per_step * steps, rtol=tolerance, atol=tolerance)
    frobenius = ds.product_norm_log10.sel(source=0, batch=0)
    np.testing.assert_allclose(frobenius, per_step * steps + np.log10(6) / 2, rtol=tolerance, atol=tolerance)
    last = np.log10(np.sqrt(6) / 2)
    np.testing.assert_allclose(
        ds.adjoint_norm_log10.sel(batch=0), last + per_step * steps[::-1], rtol=tolerance, atol=tolerance
    )
    rows = ds.loss_adjoint_norm_log10.sel(time=2000, source=0, batch=0)
    np.testing.assert_allclose(rows, last + per_step * 2000, rtol=tolerance)
    # Each linear variable is its log10 in float64, with 0 and infinity beyond; NaN where there is no pair.
    for name in ("product_norm", "product_spectral_norm", "adjoint_norm", "loss_adjoint_norm"):
        log10 = ds[f"{name}_log10"].values
        with np.errstate(over="ignore", under="ignore"):
            np.testing.assert_allclose(ds[name], 10**log10, rtol=1e-11, atol=1e-310)
        assert (ds[name].values == (np.inf if large else 0)).any()


def test_an_annihilated_product_is_zero():
    cell = Elman(1, 3, activation="relu")
    params = {"U": np.eye(3), "W": np.full((3, 1), -1.0), "b": np.zeros(3)}
    ds = gradsim.simulate(cell, np.ones((5, 1, 1)), params=params, record=["product_norm", "lyapunov"])
    assert (ds.product_norm.values[np.tril_indices(6, -1)] == 0).all()
    assert (ds.product_norm_log10[1, 0] == -np.inf).all()
    assert (ds.lyapunov == -np.inf).all()


@with_and_without_kernels
@each_cell
def test_same_bits_for_any_number_of_threads(cell, compiled, rng, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    x = rng.standard_normal((70, 9, 2))
    record = ["product_norm", "product_spectral_norm", "loss_adjoint_norm", "adjoint", "gradient"]
    runs = [gradsim.simulate(cell, x, record=record, threads=n) for n in (1, 2, 5)]
    assert runs[0].identical(runs[1])
    assert runs[0].identical(runs[2])


@each_cell
def test_products_on_disk_are_those_in_memory(cell, inputs, tmp_path):
    """Bit by bit, and NaN where there is none."""
    setting = dict(record=["jacobian_product", "product_norm"], dtype="float32")
    in_memory = gradsim.simulate(cell, inputs, **setting)
    with gradsim.simulate(cell, inputs, store=tmp_path / "run", **setting) as on_disk:
        for name in in_memory.data_vars:
            np.testing.assert_array_equal(on_disk[name], in_memory[name])


def test_one_step_and_one_batch_element():
    ds = gradsim.simulate(Elman(1, 2), np.ones((1, 1, 1)), record=["jacobian_product", "adjoint", "lyapunov"])
    assert ds.jacobian_product.shape == (2, 2, 1, 2, 2)
    assert np.isfinite(ds.lyapunov).all()
