"""The gain against closed forms: isometries, states of different size, blocks, directions drawn at random."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs, analysis
from gradsim.errors import InputError, UnknownNameError
from gradsim_cells import LRU, LSTM, Elman, Linear
from gradsim_mitigations import Truncate
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


@pytest.mark.parametrize("size", [1, 3, 16])
@pytest.mark.parametrize("scale", [0.5, 1.0, 1.5])
def test_of_a_scaled_isometry_it_is_the_power_whatever_the_size(rng, size, scale):
    q, _ = np.linalg.qr(rng.standard_normal((size, size)))
    params = {"U": scale * q, "W": np.zeros((size, 1))}
    ds = gradsim.simulate(Linear(1, size), np.zeros((8, 2, 1)), params=params)
    found = analysis.gain(ds)
    lag = ds["time"] - ds["source"]
    expected = (scale**lag).where(lag >= 0).expand_dims(batch=2)
    for name, values in (("gain", expected), ("gain_log10", np.log10(expected))):
        np.testing.assert_allclose(found[name].transpose("batch", ...), values, rtol=1e-13, atol=1e-14)
    assert found["gain"].attrs == {"long_name": "RMS gain of ds_t/ds_k", "units": "1"}
    assert found["gain_log10"].attrs["long_name"] == "log10 of the RMS gain of ds_t/ds_k"
    assert found.attrs == ds.attrs


@pytest.fixture(scope="module")
def lstm():
    inputs = np.random.default_rng(1).standard_normal((6, 2, 3))
    record = ["jacobian_product", "product_norm", "effective_jacobian_product", "effective_product_norm"]
    cell, cut = LSTM(3, 4), Truncate(k1=2, k2=2)
    return gradsim.simulate(cell, inputs, record=record, mitigations=[cut], pairs=Pairs(sources=(0, 2)))


@pytest.mark.parametrize("out", [None, "h", "c"])
@pytest.mark.parametrize("into", [None, "h", "c"])
def test_of_blocks_it_is_the_root_mean_square_over_directions_of_the_source(lstm, out, into):
    """Directions in all corners of a cube are a design: their mean is that over the sphere."""
    found = analysis.gain(lstm, block_out=out, block_in=into)
    names = lstm["block_in"].values
    corners = np.array(np.meshgrid(*[[-1.0, 1.0]] * 8)).reshape(8, -1) * [[into in (None, n)] for n in names]
    directions = xr.DataArray(corners / np.linalg.norm(corners, axis=0), dims=("state_in", "direction"))
    rows = [out in (None, n) for n in names]
    for prefix in ("", "effective_"):
        moved = xr.dot(lstm[f"{prefix}jacobian_product"], directions, dim="state_in").isel(state_out=rows)
        expected = np.sqrt((moved**2).sum("state_out", skipna=False).mean("direction", skipna=False))
        values = found[f"{prefix}gain"]
        assert values.dims == lstm["product_norm"].dims
        np.testing.assert_allclose(values, expected, rtol=1e-12)
        np.testing.assert_allclose(10 ** found[f"{prefix}gain_log10"], expected, rtol=1e-12)
        said = f"{prefix[:-1]} RMS gain of d{out or 's'}_t/d{into or 's'}_k"
        assert values.attrs["long_name"] == said.strip()


def test_zero_and_not_computed_differ(lstm):
    """What truncation cuts is exactly zero; before the source there is no product."""
    for options in ({}, {"block_in": "c"}):
        found = analysis.gain(lstm, **options)
        assert (found["effective_gain"].sel(time=6, source=0) == 0).all()
        assert np.isneginf(found["effective_gain_log10"].sel(time=6, source=0)).all()
        for name in found:
            assert found[name].sel(time=1, source=2).isnull().all()


def test_is_in_float64_whatever_the_run_was_in():
    ds = gradsim.simulate(Elman(1, 3), np.ones((4, 1, 1)), record=["jacobian_product"], dtype="float32")
    assert set(analysis.gain(ds, block_in="h").dtypes.values()) == {np.dtype("float64")}


def test_of_the_blocks_of_an_elementwise_cell():
    inputs = np.random.default_rng(1).standard_normal((6, 2, 3))
    ds = gradsim.simulate(LRU(3, 4), inputs, record=["jacobian_product", "product_norm"])
    assert "group" in ds["jacobian_product"].dims
    blocks = analysis.choose.blocks_of(ds)
    assert len(blocks) == 2
    parts = [analysis.gain(ds, block_out=out)["gain"] ** 2 for out in blocks]
    np.testing.assert_allclose(sum(parts), analysis.gain(ds)["gain"] ** 2, rtol=1e-12)
    first, second = blocks
    product = ds["jacobian_product"].isel(row=0, column=1)
    found = analysis.gain(ds, block_out=first, block_in=second)["gain"]
    np.testing.assert_allclose(found, np.sqrt((product**2).mean("group", skipna=False)), rtol=1e-12)


def test_beyond_the_range_of_float64_its_log10_holds_it(make_pairs):
    log10 = np.zeros((3, 3, 1))
    log10[2, 0], log10[2, 1] = -400, 400
    ds = make_pairs(log10).assign_attrs(blocks='{"h": 64, "c": 36}')
    found = analysis.gain(ds)
    assert found["gain_log10"].values[2, :, 0].tolist() == [-401, 399, -1]
    assert found["gain"].values[0, 0, 0] == pytest.approx(0.1)


def test_of_every_probe_of_a_training():
    probe = {"every": 2, "recorders": ["product_norm", "effective_product_norm"]}
    more = {"optimizer": SGD(learning_rate=0.1), "updates": 4, "batch": 2, "record": probe}
    ds = gradsim.train(LSTM(2, 3), Adding(length=20), mitigations=[Truncate(k1=3, k2=3)], **more)
    found = analysis.gain(ds)
    assert set(found) == {"gain", "gain_log10", "effective_gain", "effective_gain_log10"}
    np.testing.assert_allclose(found["gain"], ds["product_norm"] / np.sqrt(6))
    np.testing.assert_array_equal(analysis.gain(analysis.probe(ds, 4))["gain"], found["gain"][-1])


def test_what_is_missing_is_named(lstm):
    with pytest.raises(InputError, match="add the recorder 'product_norm'"):
        analysis.gain(lstm[["jacobian_product"]])
    with pytest.raises(InputError, match="add the recorder 'jacobian_product'"):
        analysis.gain(lstm[["product_norm"]], block_in="h")
    with pytest.raises(UnknownNameError, match=r"unknown block 'x'.*Known: c, h"):
        analysis.gain(lstm, block_out="x")
    with pytest.raises(InputError, match=r"attribute blocks is missing.*keep_attrs=True"):
        analysis.gain(lstm.drop_attrs())
