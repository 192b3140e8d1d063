"""All parameters as one vector."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.training.flat import Flat

PARAMS = {"W": np.arange(6.0).reshape(2, 3), "b": np.array([7.0]), "g": np.array(8.0)}
FLAT = Flat({n: p.shape for n, p in PARAMS.items()})


def test_what_is_joined_is_seen_again_in_order():
    vector = FLAT.joined(PARAMS, np.dtype("float32"))
    assert vector.dtype == np.float32
    np.testing.assert_array_equal(vector, [0, 1, 2, 3, 4, 5, 7, 8])
    assert FLAT.size == 8
    for name, value in FLAT.views(vector).items():
        np.testing.assert_array_equal(value, PARAMS[name])


def test_views_are_the_vector_itself():
    vector = FLAT.joined(PARAMS, np.dtype("float64"))
    FLAT.views(vector)["W"][1, 0] = -1
    assert vector[3] == -1


@pytest.mark.parametrize("size", [1e-200, 1.0, 1e200])
def test_norms_of_any_size(size):
    vector = size * FLAT.joined(PARAMS, np.dtype("float64"))
    expected = [size * np.sqrt(55), size * 7, size * 8]
    np.testing.assert_allclose(FLAT.norms(vector), expected, rtol=1e-14)
