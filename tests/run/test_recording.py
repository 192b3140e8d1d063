"""What recorders are given: the same numbers for any choice of pairs, in memory and in a store."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import xarray as xr

import gradsim
from gradsim import Pairs, Recorder, Variable
from gradsim.contracts.pieces import ProductNorms
from gradsim.errors import OutOfRangeWarning
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear
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


@dataclass(frozen=True, eq=False)
class Again(Recorder):
    """The norms of products once more, and which piece they were in."""

    name = "again"
    stream = ProductNorms

    def variables(self, problem):
        dims = (*problem.pair_dims, "batch")
        return Variable("again", dims, "norm", dtype="float64"), Variable("part", dims, "part")

    def compute(self, piece):
        return {"again": piece.norm, "part": np.full(piece.norm.shape, piece.region["batch"].start)}


def test_arrays_that_a_dataset_keeps_belong_to_one_variable(rng):
    """Norms of all pairs are made where they stay; a copy is what a second recorder gets."""
    inputs = rng.standard_normal((20, 5, 2))
    ds = gradsim.simulate(GRU(2, 3), inputs, record=["product_norm", Again()])
    np.testing.assert_array_equal(ds.again, ds.product_norm)
    assert (ds.part == 0).all()
    assert not np.shares_memory(ds.again.values, ds.product_norm.values)
    ds.product_norm[:] = 1
    assert not (ds.again == 1).all()
    alone = gradsim.simulate(GRU(2, 3), inputs, record=[Again()])
    np.testing.assert_array_equal(alone.again, ds.again)


@pytest.mark.parametrize("chosen", [{}, {"pairs": Pairs(max_lag=900)}], ids=["all", "band"])
@pytest.mark.parametrize("cell", [Linear(1, 1), Linear(1, 6)], ids=["number", "matrix"])
def test_norms_beyond_float64_are_said_to_be_infinite(cell, chosen):
    """Of 3**900 it holds the logarithm only."""
    n = cell.state_size
    params = {"U": 3 * np.eye(n), "W": np.zeros((n, 1))}
    with pytest.warns(OutOfRangeWarning, match=r"product_norm \(\d+ of"):
        ds = gradsim.simulate(cell, np.zeros((900, 1, 1)), params=params, record=["product_norm"], **chosen)
    assert np.isinf(ds.product_norm).any()
    assert ds.product_norm_log10.max() == pytest.approx(900 * np.log10(3) + np.log10(n) / 2)
