"""Step Jacobians whose powers of two are taken out: the same numbers, and products that stay in range."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.engine.jacobians import Drift, ScaledJacobians
from gradsim_cells import LRU


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("power", [-90, 0, 90])
def test_blocks_and_exponents_are_the_jacobians(power, size, dtype, rng):
    raw = np.ldexp(rng.standard_normal((30, 2, 3, size, size)), power).astype(dtype)
    found = ScaledJacobians(raw)
    np.testing.assert_array_equal(np.ldexp(found.blocks, found.exponent[..., None, None]), raw)
    np.testing.assert_array_equal(found.shifted, (found.exponent != 0).any(axis=(1, 2)))


@pytest.mark.parametrize("scale", [2.0**-7, 1.0, 2.0**7])
def test_products_of_safe_blocks_stay_in_range(scale, rng):
    turns = rng.uniform(0, 2 * np.pi, 500)
    cos, sin = np.cos(turns), np.sin(turns)
    raw = scale * np.array([[cos, -sin], [sin, cos]]).transpose(2, 0, 1)[:, None, None]
    found = ScaledJacobians(raw.astype(np.float32))
    assert found.safe
    for start in range(0, 500, 50):
        product = np.eye(2)
        for block in found.blocks[start:, 0, 0]:
            product = block.astype(float) @ product
            assert 2.0**-60 < np.abs(product).max() < 2.0**60


def test_blocks_that_are_annihilated_have_to_be_watched(rng):
    raw = rng.standard_normal((9, 1, 2, 1, 1))
    raw[4, 0, 1] = 0
    assert not ScaledJacobians(raw).safe


def test_a_part_of_a_run_knows_where_it_lies(rng):
    raw = np.ldexp(rng.standard_normal((6, 4, 1, 5, 5)), 900)
    part = ScaledJacobians(raw, first_step=11, first_batch=20)
    blocks, exponent = part.at(13, slice(21, 23))
    np.testing.assert_array_equal(np.ldexp(blocks, exponent[..., None, None]), raw[2, 1:3])
    plain = ScaledJacobians(np.ones((6, 4, 1, 5, 5)))
    assert plain.at(1, slice(0, 4))[1] is None


@pytest.mark.parametrize("size", [1, 2])
def test_what_is_taken_out_of_a_part_is_what_is_taken_out_of_the_whole(size, rng):
    """Steps that come a few at a time, of which a part of the steps and of the batch is kept."""
    raw = rng.standard_normal((90, 4, 3, size, size)) * 2.0 ** -rng.integers(0, 40, (90, 1, 3, 1, 1))
    whole, drift = ScaledJacobians(raw), Drift()
    for first in range(0, 90, 7):
        drift.add(first + 1, raw[first : first + 7])
    part = ScaledJacobians(raw[30:60, 1:3], 31, 1, drift)
    assert whole.safe
    assert whole.shifted[:30].any()
    assert whole.shifted[30:60].any()
    np.testing.assert_array_equal(part.exponent, whole.exponent[30:60, 1:3])
    np.testing.assert_array_equal(part.blocks, whole.blocks[30:60, 1:3])
    assert (ScaledJacobians(raw[30:60, 1:3], 31, 1).exponent != part.exponent).any()


@pytest.mark.parametrize("log_rate", [4.2, -30.0])
def test_rotations_whose_squares_leave_single_precision(log_rate):
    """|lambda| is exp(-exp(nu)): squares of the first are 1e-58. The gain over a lag is its power."""
    cell = LRU(1, 2)
    params = cell.init_params(np.random.default_rng(0)) | {"nu": np.full(2, log_rate)}
    ds = gradsim.simulate(cell, np.ones((40, 1, 1)), params=params, record=["product_norm"], dtype="float32")
    expected = np.log10(np.sqrt(4)) - 40 * np.exp(log_rate) / np.log(10)
    np.testing.assert_allclose(ds.product_norm_log10.sel(time=40, source=0), expected, rtol=1e-5, atol=1e-5)
