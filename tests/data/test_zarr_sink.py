"""Values on disk: chunks, reading when used, a full disk."""

from __future__ import annotations

import errno

import numpy as np
import pytest
import xarray as xr

import gradsim
import gradsim.run.trial
from gradsim.data.zarr_sink import ZarrSink
from gradsim.errors import IncompleteRunError, StoreError
from gradsim_cells import LSTM, Elman


def test_a_full_disk_is_explained(tmp_path, monkeypatch):
    def full(self, name, bounds, array):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(ZarrSink, "close", full)
    with pytest.raises(StoreError, match=f"the disk is full: {tmp_path}/run holds .* free some space"):
        gradsim.simulate(Elman(2, 3), np.ones((9, 1, 2)), store=tmp_path / "run")
    with pytest.raises(IncompleteRunError, match="'failed'"):
        gradsim.open_run(tmp_path / "run")


def test_full_products_are_cut_into_several_chunks(tmp_path, rng, monkeypatch):
    """Blocks are unions of whole chunks also where a tile is written in several pieces."""
    from gradsim.engine import layout

    monkeypatch.setattr(layout, "_WRITTEN_BYTES", 40_000)
    x = rng.standard_normal((90, 2, 2))
    setting = {"record": ["jacobian_product", "step_jacobian", "product_norm"]}
    stored = gradsim.simulate(LSTM(2, 3), x, store=tmp_path / "run", **setting)
    assert stored.jacobian_product.encoding["chunks"][0] < 91
    xr.testing.assert_identical(stored.load(), gradsim.simulate(LSTM(2, 3), x, **setting))


def test_values_are_read_when_used(tmp_path):
    ds = gradsim.simulate(
        LSTM(2, 3), np.ones((20, 1, 2)), record=["jacobian_product"], store=tmp_path / "run"
    )
    assert not ds.jacobian_product.variable._in_memory
