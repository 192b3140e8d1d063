"""Derivatives by tracing, against closed forms of s' = tanh(s U^T + x W^T) and of an elementwise step."""

from __future__ import annotations

import threading

import numpy as np
import pytest

from gradsim.errors import PluginError
from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import by_autograd


def step(params, state, inputs, xp):
    return xp.tanh(state @ params["U"].T + inputs @ params["W"].T)


def elementwise(params, state, inputs, xp, *, gain):
    return params["a"] * gain * state**2 + inputs


@pytest.fixture
def point(rng):
    params = {"U": rng.standard_normal((4, 4)) / 2, "W": rng.standard_normal((4, 2))}
    return params, rng.standard_normal((5, 3, 4)), rng.standard_normal((5, 3, 2))


@pytest.fixture
def slope(point):
    return 1 - step(*point, np) ** 2


@pytest.mark.parametrize("piece_bytes", [1, 3 * 5 * 3 * 4 * 8, 2**20])
def test_the_step_jacobian_is_the_closed_form(point, slope, piece_bytes, monkeypatch):
    """However many positions are traced at once, and however often, for 3 and 1 of the 4 rows as well."""
    monkeypatch.setattr(by_autograd, "_TRACE_BYTES", piece_bytes)
    found = autodiff.step_jacobian(step, 1, *point, {})
    np.testing.assert_allclose(found[..., 0, :, :], slope[..., None] * point[0]["U"], rtol=1e-13, atol=1e-16)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_no_bit_of_a_step_jacobian_depends_on_the_steps_around_it(rng, batch, dtype, monkeypatch):
    """Whatever rows a matrix product takes together, and in whatever order it adds for so many."""
    params = {"U": rng.standard_normal((33, 33)).astype(dtype), "W": np.ones((33, 2), dtype=dtype)}
    state, inputs = (rng.standard_normal((40, batch, n)).astype(dtype) for n in (33, 2))
    whole = autodiff.step_jacobian(step, 1, params, state, inputs, {})
    for length, piece_bytes in ((1, 2**20), (7, 2**20), (40, 1), (40, 2**14)):
        monkeypatch.setattr(by_autograd, "_TRACE_BYTES", piece_bytes)
        for i in range(0, 40, length):
            part = slice(i, i + length)
            found = autodiff.step_jacobian(step, 1, params, state[part], inputs[part], {})
            assert found.dtype == dtype
            np.testing.assert_array_equal(found, whole[part])


def test_diagonal_blocks_are_taken_apart(rng):
    params, state, gain = {"a": rng.standard_normal(4)}, *rng.standard_normal((2, 5, 3, 4))
    found = autodiff.step_jacobian(elementwise, 4, params, state, np.zeros((5, 3, 4)), {"gain": gain})
    assert found.shape == (5, 3, 4, 1, 1)
    np.testing.assert_allclose(found[..., 0, 0], 2 * params["a"] * gain * state, rtol=1e-13)


def test_cotangents_of_states_and_parameters(point, slope, rng):
    params, state, inputs = point
    cotangent = rng.standard_normal(state.shape)
    d = cotangent * slope
    np.testing.assert_allclose(
        autodiff.state_vjp(step, *point, cotangent, {}), d @ params["U"], rtol=1e-12, atol=1e-15
    )
    found = autodiff.params_vjp(step, *point, cotangent, {})
    np.testing.assert_allclose(found["U"], d.swapaxes(-1, -2) @ state, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found["W"], d.swapaxes(-1, -2) @ inputs, rtol=1e-12, atol=1e-15)


def test_the_derivative_of_a_bilinear_form(rng):
    """left J right of s' = a g s^2 is 2 a g s left right."""
    params, state, gain = {"a": rng.standard_normal(4)}, *rng.standard_normal((2, 5, 3, 4))
    left, right = rng.standard_normal((2, 6, 5, 3, 4))
    given = (params, state, np.zeros((5, 3, 4)), left, right, {"gain": gain})
    of_params, of_states = autodiff.bilinear_vjp(elementwise, *given)
    both = (left * right).sum(axis=0)
    np.testing.assert_allclose(of_states, 2 * params["a"] * gain * both, rtol=1e-12)
    np.testing.assert_allclose(of_params["a"], (2 * gain * state * both).sum(axis=(0, 1)), rtol=1e-12)


def test_a_gradient_comes_with_its_value(rng):
    x = rng.standard_normal((3, 2))
    found, value = autodiff.gradient(lambda x: (x**3).sum(axis=1), x)
    np.testing.assert_allclose(found, 3 * x**2, rtol=1e-14)
    np.testing.assert_allclose(value, (x**3).sum(axis=1), rtol=1e-14)


def test_numpy_behind_the_trace_is_an_error(point):
    def numpy_inside(params, state, inputs, xp):
        return np.tanh(np.stack((state, state)).sum(axis=0))

    with pytest.raises(PluginError, match=r"step\(\) cannot be traced"):
        autodiff.state_vjp(numpy_inside, *point, np.ones((5, 3, 4)), {})


@pytest.mark.parametrize("others", [0, 1])
def test_derivatives_of_derivatives_do_not_mind_other_threads(others):
    """Another thread, which has begun to derive before this one, ends between outer and inner derivative."""
    begun, end = threading.Event(), threading.Event()

    def slow(x):
        begun.set()
        assert end.wait(timeout=30)
        return x

    def outer(a):
        end.set()
        for thread in threads:
            thread.join(timeout=30)
        pull, _ = by_autograd._pull_and_value("inner", outer, lambda x: a * x**3, 2.0)
        return pull(1.0) * a  # 3 a^2 x^2

    threads = [threading.Thread(target=by_autograd.gradient, args=(slow, 1.0)) for _ in range(others)]
    for thread in threads:
        thread.start()
        assert begun.wait(timeout=30)
    gradient, value = by_autograd.gradient(outer, 5.0)
    assert (value, gradient) == (3 * 25 * 4, 3 * 10 * 4)
