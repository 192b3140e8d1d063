"""Cumulative products, against integers of unlimited size."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

pytest.importorskip("numba")

from gradsim.engine.norms.diagonal_kernels import cumulate, mild


def cumulated(blocks):
    shape = len(blocks) + 1, blocks.shape[1]
    size, inverse, exponent = np.empty(shape), np.empty(shape), np.empty(shape, np.int64)
    fits = cumulate(blocks, size, inverse, exponent)
    return fits, size, inverse, exponent


@pytest.mark.parametrize("spread", [0, 250])
def test_products_of_squares_are_rounded_once(spread, rng):
    numbers = rng.standard_normal((300, 2)) * 10.0 ** rng.uniform(-spread, spread, (300, 2))
    fits, size, inverse, exponent = cumulated(numbers[..., None, None])
    assert fits
    exact = [Fraction(1)] * 2
    for t in range(301):
        for j in range(2):
            found = Fraction(float(size[t, j])) * Fraction(2) ** int(exponent[t, j])
            assert abs(found / exact[j] - 1) < Fraction(2) ** -52
            assert inverse[t, j] == 1 / size[t, j]
            assert 1 <= size[t, j] < 2
            exact[j] *= Fraction(float(numbers[min(t, 299), j])) ** 2


def test_only_blocks_that_rotate_and_scale_fit(rng):
    block = np.array([[3.0, -4.0], [4.0, 3.0]])
    blocks = np.tile(block, (5, 2, 1, 1))
    fits, size, _, exponent = cumulated(blocks)
    assert fits
    np.testing.assert_array_equal(size[5] * 2.0 ** exponent[5], 25.0**5)
    for a, c in np.ndindex(2, 2):
        other = blocks.copy()
        other[3, 1, a, c] = np.nextafter(other[3, 1, a, c], 9)
        assert not cumulated(other)[0]


def test_a_zero_leaves_the_range():
    numbers = np.array([[1.0, 2.0], [0.0, 2.0], [1.0, 2.0]])[..., None, None]
    _, _, _, exponent = cumulated(numbers)
    assert mild(exponent, 0, 2)
    assert not mild(exponent, 0, 3)
    assert mild(exponent, 2, 4)
