"""Names, labels and provenance of a dataset."""

from __future__ import annotations

import json

import numpy as np

import gradsim
from gradsim_cells import LSTM
from gradsim_mitigations import ClipNorm
from gradsim_tasks import Sunspots

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def test_labels_and_provenance():
    ds = gradsim.simulate(
        LSTM(1, 4),
        task=Sunspots(length=12),
        mitigations=[ClipNorm(0.5)],
        rng=11,
        record=["state", "step_jacobian", "jacobian_product", "product_norm", "effective_gradient"],
    )
    for name, variable in ds.variables.items():
        assert variable.attrs["long_name"], name
    for name in ds.data_vars:
        assert ds[name].attrs["units"], name
    assert ds.jacobian_product.dims == ("time", "source", "batch", "state_out", "state_in")
    assert list(ds.block_out.values) == ["h"] * 4 + ["c"] * 4
    assert (ds.time[0], ds.time[-1], ds.step[0], ds.step[-1]) == (0, 12, 1, 12)
    assert all(isinstance(v, str | int | float) for v in ds.attrs.values())
    record = json.loads(ds.attrs["provenance"])
    assert record["cell"] == {
        "name": "lstm",
        "input_size": 1,
        "hidden_size": 4,
        "forget_bias": 1.0,
        "recurrent_scale": 1.0,
        "recurrent_init": None,
        "input_init": None,
        "bias_init": None,
    }
    sunspots = {"name": "sunspots", "length": 12, "ahead": 1, "split": [0.7, 0.15, 0.15]}
    assert record["task"] == sunspots
    assert record["seed"]["entropy"] == "11"
    assert record["plugins"]["lstm"].startswith("gradsim ")
    assert record["versions"]["numpy"] == np.__version__


def test_a_block_is_selected_by_name():
    ds = gradsim.simulate(LSTM(2, 4), X, record=["jacobian_product"])
    dh_dc = ds.jacobian_product.sel(time=5, source=2).where(
        (ds.block_out == "h") & (ds.block_in == "c"), drop=True
    )
    assert dh_dc.shape == (3, 4, 4)
    np.testing.assert_array_equal(dh_dc, ds.jacobian_product.values[5, 2, :, :4, 4:])
