"""Diagonal blocks, against full matrices filled entry by entry."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.numerics.blocks import dense_blocks, through_blocks


@pytest.mark.parametrize(("groups", "k"), [(1, 1), (1, 6), (5, 1), (4, 2), (3, 4)])
def test_blocks_act_as_the_full_matrix(groups, k, rng):
    blocks, adjoint = rng.standard_normal((7, groups, k, k)), rng.standard_normal((7, groups * k))
    full = np.zeros((7, groups * k, groups * k))
    for j, a, c in np.ndindex(groups, k, k):
        full[:, a * groups + j, c * groups + j] = blocks[:, j, a, c]
    np.testing.assert_array_equal(dense_blocks(blocks), full)
    expected = [row @ matrix for row, matrix in zip(adjoint, full, strict=True)]
    np.testing.assert_allclose(through_blocks(adjoint, blocks), expected, rtol=1e-13, atol=1e-14)
