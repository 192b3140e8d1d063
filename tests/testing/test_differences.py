"""Central differences, against closed forms; kinks are told apart from slopes."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.testing.differences import jacobian, slopes, worst


def test_slopes_of_smooth_functions():
    x = np.array([-1.3, 0.2, 0.9, 2.0])
    found, smooth = slopes(lambda h: np.exp(np.sin(x + h)))
    assert smooth.all()
    np.testing.assert_allclose(found, np.cos(x) * np.exp(np.sin(x)), rtol=1e-9)


def test_a_kink_is_not_smooth():
    x = np.array([-1.0, 0.0, 1e-6, 1.0])
    found, smooth = slopes(lambda h: np.maximum(x + h, 0.1 * (x + h)))
    np.testing.assert_array_equal(smooth, [True, False, False, True])
    np.testing.assert_allclose(found[[0, 3]], [0.1, 1], rtol=1e-9)


def test_what_is_not_finite_is_not_smooth():
    _, smooth = slopes(lambda h: np.array([np.inf if h > 0 else 0.0, h]))
    np.testing.assert_array_equal(smooth, [False, True])


def test_the_jacobian_of_a_map(rng):
    w, state = rng.standard_normal((3, 3)), rng.standard_normal((5, 2, 3))
    found, smooth = jacobian(lambda s: np.tanh(s @ w.T), state)
    assert smooth.all()
    np.testing.assert_allclose(found, (1 - np.tanh(state @ w.T) ** 2)[..., None] * w, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("wrong", [1.001, np.nan])
def test_the_worst_error_and_its_place(wrong):
    theirs = np.array([[1.0, 2.0], [4.0, 1e-3]])
    ours = theirs.copy()
    ours[1, 0] *= wrong
    counts = np.ones_like(theirs, dtype=bool)
    size, place = worst(ours, theirs, counts, 1.0, 1e-6, 0.0)
    assert place == (1, 0)
    assert size > 500
    counts[1, 0] = False
    assert worst(ours, theirs, counts, 1.0, 1e-6, 0.0)[0] == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_allowed_grows_with_the_size_of_an_element(sign):
    theirs = sign * np.array([100.0, 1.0])
    size, place = worst(theirs + 1e-4, theirs, np.ones(2, dtype=bool), 1.0, 1e-3, 0.0)
    assert place == (1,)
    np.testing.assert_allclose(size, 0.1, rtol=1e-4)


@pytest.mark.parametrize("sign", [1, -1])
def test_what_is_allowed_grows_with_the_largest_element(sign):
    theirs = sign * np.array([100.0, 1.0])
    size, _ = worst(theirs + 1e-2, theirs, np.ones(2, dtype=bool), 1.0, 0.0, 1e-3)
    np.testing.assert_allclose(size, 0.1, rtol=1e-4)
