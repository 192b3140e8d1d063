"""The smallest singular value of I - shifted J, against exact values and a singular value decomposition."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.numerics import bidiagonal
from gradsim.numerics.bidiagonal import smallest_singular_value
from gradsim.numerics.blocks import dense_blocks

EXACT = {
    (1.0, 10): 2 * np.sin(np.pi / 42),
    (1.0, 100): 2 * np.sin(np.pi / 402),
    (0.9, 50): 0.11191575611866693,
    (1.1, 50): 0.001627196796398687,
}


def rotated(rng, c, steps, m):
    q = np.linalg.qr(rng.standard_normal((m, m)))[0]
    return np.broadcast_to(c * q, (steps, 2, 1, m, m))


@pytest.mark.parametrize(("c", "steps"), EXACT)
@pytest.mark.parametrize("m", [1, 5])
def test_a_constant_multiple_of_a_rotation(c, steps, m, rng):
    found = smallest_singular_value(rotated(rng, c, steps - 1, m))
    np.testing.assert_allclose(found.value, EXACT[c, steps], rtol=1e-11)
    np.testing.assert_allclose(found.log10, np.log10(EXACT[c, steps]), rtol=1e-11)


def whole(blocks):
    """A of one batch element."""
    steps = dense_blocks(blocks)
    m = steps.shape[-1]
    found = np.eye(m * (len(steps) + 1))
    for t, step in enumerate(steps):
        found[m * (t + 1) : m * (t + 2), m * t : m * (t + 1)] = -step
    return found


@pytest.mark.parametrize("scale", [0.3, 1.0])
@pytest.mark.parametrize(("groups", "k"), [(1, 4), (3, 2), (5, 1)])
def test_any_steps_as_by_singular_values_of_the_whole(groups, k, scale, rng, monkeypatch):
    blocks = scale * rng.standard_normal((25, 3, groups, k, k)) / np.sqrt(k)
    expected = [np.linalg.svd(whole(blocks[:, b]), compute_uv=False)[-1] for b in range(3)]
    np.testing.assert_allclose(smallest_singular_value(blocks).value, expected, rtol=1e-9)
    together = smallest_singular_value(blocks).value
    monkeypatch.setattr(bidiagonal, "_ROOM_BYTES", 8)  # one element at a time
    np.testing.assert_allclose(smallest_singular_value(blocks).value, together, rtol=1e-12)


def test_many_singular_values_beside_the_smallest():
    steps = np.broadcast_to(0.5 * np.eye(3), (299, 1, 1, 3, 3))
    matrix = np.eye(300) - 0.5 * np.eye(300, k=-1)
    expected = np.linalg.svd(matrix, compute_uv=False)[-1]
    np.testing.assert_allclose(smallest_singular_value(steps).value, expected, rtol=1e-9)


@pytest.mark.parametrize("c", [2.0, -2.0])
def test_products_beyond_the_range_of_floats(c):
    # L tends to c^(t - k), of which the singular value is c^T / (1 - c^-2) in the corner.
    found = smallest_singular_value(np.full((1999, 1, 1, 1, 1), c))
    np.testing.assert_allclose(found.log10, np.log10(0.75) - 1999 * np.log10(2), rtol=1e-13)
    assert found.value == 0


def test_without_products_it_is_one():
    np.testing.assert_allclose(smallest_singular_value(np.zeros((0, 2, 1, 3, 3))).value, [1, 1], rtol=1e-14)
    np.testing.assert_allclose(smallest_singular_value(np.zeros((4, 2, 1, 3, 3))).value, [1, 1], rtol=1e-14)
