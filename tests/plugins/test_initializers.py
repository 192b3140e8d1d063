"""The shipped initializers against closed forms and published numbers."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.errors import InputError
from gradsim_initializers import Chrono, Gaussian, HiPPO, Orthogonal, Ring, Uniform


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_gaussian_weights_keep_sizes_and_have_a_largest_singular_value_of_two(rng):
    weight = Gaussian().weight(rng, (1, 400, 400))[0]
    assert np.linalg.norm(weight, 2) == pytest.approx(2, rel=0.03)
    assert np.abs(np.linalg.eigvals(weight)).max() == pytest.approx(1, rel=0.06)


@pytest.mark.parametrize("shape", [(3, 4, 4), (2, 5, 3), (2, 3, 5)])
def test_orthogonal_weights_have_singular_values_of_one(rng, shape):
    weight = Orthogonal().weight(rng, shape)
    np.testing.assert_allclose(np.linalg.svd(weight, compute_uv=False), 1, rtol=1e-14)


def test_orthogonal_weights_are_uniform_over_the_group(rng):
    """Of a Haar matrix E[tr Q] = 0, E[(tr Q)^2] = 1 and E[(tr Q)^4] = 3 (Diaconis & Shahshahani 1994)."""
    traces = np.trace(Orthogonal().weight(rng, (40_000, 5, 5)), axis1=-2, axis2=-1)
    assert traces.mean() == pytest.approx(0, abs=0.03)
    assert (traces**2).mean() == pytest.approx(1, rel=0.05)
    assert (traces**4).mean() == pytest.approx(3, rel=0.1)


def test_uniform_weights_lie_within_the_bound_of_pytorch(rng):
    for drawn in (Uniform().weight(rng, (3, 50, 7)), Uniform().bias(rng, (3, 50), None)):
        assert np.abs(drawn).max() < 50**-0.5
        assert drawn.std() == pytest.approx((3 * 50) ** -0.5, rel=0.1)


def test_a_ring_is_uniform_in_area(rng):
    """The mean of 1 / (1 - |lambda|^2) is ln((1 - r0^2) / (1 - r1^2)) / (r1^2 - r0^2)."""
    found = Ring(0.4, 0.9, max_phase=1.0).eigenvalues(rng, 200_000)
    assert (1 / (1 - np.abs(found) ** 2)).mean() == pytest.approx(2.28673510719519, rel=0.01)
    assert 0 < np.angle(found).min() < np.angle(found).max() < 1
    with pytest.raises(InputError, match="r_min < r_max is needed"):
        Ring(0.9, 0.4)


def test_hippo_eigenvalues_stand_in_for_those_of_legs(rng):
    """Those of the normal part of HiPPO-LegS have the real part -1/2, and S4D-Inv is near to them."""
    n = 32
    p = np.sqrt(np.arange(2 * n) + 0.5)
    whole = -np.tril(np.outer(2**0.5 * p, 2**0.5 * p), -1) - np.diag(np.arange(2 * n) + 1.0)
    found = np.linalg.eigvals(whole + np.outer(p, p))
    np.testing.assert_allclose(found.real, -0.5, rtol=1e-8)
    turns = np.sort(found.imag[found.imag > 0])[::-1]
    inverse = HiPPO("inverse").rates(rng, n)
    assert (inverse.real == -0.5).all()
    assert inverse.imag[0] == pytest.approx(2 * n**2 / (2 * np.pi) * (1 - 1 / n), rel=1e-6)
    assert turns[0] == pytest.approx((2 * n) ** 2 / np.pi, rel=0.01)
    linear = HiPPO().rates(rng, n)
    np.testing.assert_allclose(linear, -0.5 + 1j * np.pi * np.arange(n), rtol=1e-15)
    for initializer in (HiPPO(step=1e-3), Ring(0.5, 0.6, max_phase=1.0)):
        rates, found = (f(np.random.default_rng(1), n) for f in (initializer.rates, initializer.eigenvalues))
        step = 1e-3 if initializer.name == "hippo" else 1.0
        np.testing.assert_allclose(np.exp(step * rates), found, rtol=1e-14)


def test_chrono_keeps_for_times_of_all_lengths(rng):
    """f = u / (1 + u) with u in [1, T - 1], and an input gate of 1 - f."""
    keeps, admits, other = Chrono(100).bias(rng, (3, 4000), (1, -1, 0))
    times = np.exp(keeps)
    assert 1 <= times.min() < 2
    assert 98 < times.max() <= 99
    assert times.mean() == pytest.approx(50, rel=0.03)
    np.testing.assert_array_equal(admits, -keeps)
    assert not other.any()
