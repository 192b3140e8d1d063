"""What recorders are given: the same numbers for any choice of pairs, in memory and in a store."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs
from gradsim_cells import GRU, LRU, LSTM, Elman
from gradsim_mitigations import Truncate

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
        largest = np.abs(wanted.values).max(where=np.isfinite(wanted.values), initial=0)
        close = 1e-14 * largest  # products over 60 steps are small
        np.testing.assert_allclose(chosen[name], wanted, rtol=1e-10, atol=close, err_msg=name)


@each_cell
def test_chosen_lags_in_a_store(cell, rng, tmp_path):
    inputs = rng.standard_normal((60, 3, 2))
    setting = {**SETTING, "pairs": Pairs(lags=(1, 10, 50))}
    in_memory = gradsim.simulate(cell, inputs, **setting)
    stored = gradsim.simulate(cell, inputs, store=tmp_path / "run", **setting)
    xr.testing.assert_identical(stored.load(), in_memory)
    xr.testing.assert_identical(gradsim.open_run(tmp_path / "run").load(), in_memory)
