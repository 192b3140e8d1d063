"""What compiled passes are made of; whole passes are in tests/plugins/test_unrolls.py."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from gradsim.contracts.dense import parts


@njit
def tanh_of(x, out):
    for i in range(len(x)):
        out[i] = parts.tanh(x[i])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_tanh_is_right_to_three_units_in_the_last_place(dtype):
    small = np.geomspace(np.finfo(dtype).tiny, 50, 300_001)
    x = np.concatenate((small, -small, np.linspace(-25, 25, 300_001))).astype(dtype)
    found = np.empty_like(x)
    tanh_of(x, found)
    exact = np.tanh(x.astype(np.longdouble))
    assert (np.abs(found - exact) <= 3 * np.spacing(np.abs(exact).astype(dtype))).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_compiled_tanh_at_its_ends(dtype):
    x = np.array([np.nan, np.inf, -np.inf, 0, 1e30, -1e30], dtype=dtype)
    found = np.empty_like(x)
    tanh_of(x, found)
    np.testing.assert_array_equal(found, np.array([np.nan, 1, -1, 0, 1, -1], dtype=dtype))
