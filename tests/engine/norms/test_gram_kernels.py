"""Compiled Gram matrices, against matrix products."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from gradsim.engine.norms.gram_kernels import grams
from gradsim.numerics.scaled import LOWEST

KEEP = 4.0**24


def made(products, exponents, times):
    batch, groups, _, k, _ = products.shape
    matrix = np.full((batch, k * (k + 1) // 2, groups, len(times)), 7.0)
    trace, top = np.empty((batch, groups, len(times))), np.empty((batch, len(times)), np.int32)
    grams(products, exponents, np.array(times), KEEP, 2.0, matrix, trace, top)
    return matrix, trace, top


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("k", [5, 8, 13, 16, 32])
def test_upper_triangles_whose_inner_products_are_those_of_matrices(k, dtype, rng):
    products = rng.standard_normal((2, 1, 20, k, k)).astype(dtype)
    times = [3, 4, 5, 6, 10, 11, 12, 13, 3, 4, 5, 6, 7, 8, 9, 19]
    matrix, trace, top = made(products, np.full((2, 1, 20), 9, np.int32), times)
    wide = products[:, 0, times].astype(np.float64)
    exact = wide.swapaxes(-1, -2) @ wide
    rows, columns = np.triu_indices(k)
    weight = np.where(rows == columns, 1, 2)
    expected = exact[..., rows, columns] * weight
    np.testing.assert_allclose(matrix[:, :, 0].swapaxes(1, 2), expected, rtol=1e-11, atol=1e-12)
    np.testing.assert_allclose(trace[:, 0], np.trace(exact, axis1=-2, axis2=-1), rtol=1e-13)
    assert (top == 9).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_what_leaves_the_range_goes_into_exponents(dtype, rng):
    """In place; groups have one exponent, and those that are nothing beside others, or zero, none."""
    powers = np.array([[0, 30, -90], [60, -30, 0]])[:, :, None, None]
    first = (rng.standard_normal((1, 2, 3, 6, 6)) * 2.0**powers).astype(dtype)
    first[0, 1, 2] = 0
    products, exponents = first.copy(), np.zeros((1, 2, 3), np.int32)
    matrix, trace, top = made(products, exponents, [0, 1, 2, 0, 1, 2, 0, 1])
    back = np.ldexp(products.astype(np.float64), exponents[..., None, None])
    np.testing.assert_array_equal(back, first.astype(np.float64))
    inside = np.sum(products.astype(np.float64) ** 2, axis=(-1, -2))
    assert ((inside == 0) | ((inside > 1 / KEEP) & (inside < KEEP))).all()
    exact = np.sum(first.astype(np.float64) ** 2, axis=(-1, -2))
    np.testing.assert_allclose(np.ldexp(trace[..., :3], 2 * top[:, None, :3]), exact, rtol=1e-12, atol=1e-300)
    np.testing.assert_allclose(matrix[0, [0, 6, 11, 15, 18, 20]].sum(axis=0), trace[0], rtol=1e-12)
    assert (top[0, :3] == exponents[0, [1, 0, 0], [0, 1, 2]]).all()


def test_nothing_has_no_exponent():
    _, trace, top = made(np.zeros((1, 1, 2, 5, 5)), np.zeros((1, 1, 2), np.int32), [0, 1] * 4)
    assert (trace == 0).all()
    assert (top == LOWEST).all()
