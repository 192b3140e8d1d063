"""Compiled kernels beside NumPy."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim_cells import GRU, LRU, LSTM, Elman, MinGRU

CELLS = [Elman(2, 5), GRU(2, 4), LSTM(2, 3), MinGRU(2, 6), LRU(2, 3)]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)


@each_cell
@pytest.mark.parametrize("steps", [1, 2, 8, 9, 17, 33])
def test_kernels_and_numpy_give_the_same_norms(cell, steps, rng, monkeypatch):
    """Also where time does not divide into intervals of one length."""
    found = []
    for compiled in ("0", "1"):
        monkeypatch.setenv("GRADSIM_COMPILED", compiled)
        x = np.random.default_rng(0).standard_normal((steps, 3, 2))
        found.append(gradsim.simulate(cell, x, record=["product_norm"]).product_norm.values)
    np.testing.assert_allclose(*found, rtol=1e-12)
    assert np.isfinite(found[0][np.tril_indices(steps + 1)]).all()
