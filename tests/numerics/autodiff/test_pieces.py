"""Derivatives that are made of others, against closed forms, whatever the size of the pieces."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import pieces, through


def step(params, state, inputs, xp, *, gain):
    return gain * xp.tanh(state @ params["U"].T) + through(params["a"] * state**2, "square") + inputs


@pytest.fixture
def point(rng):
    params = {"U": rng.standard_normal((3, 3)), "a": rng.standard_normal(3)}
    return params, *rng.standard_normal((2, 5, 2, 3)), {"gain": rng.standard_normal((5, 2, 3))}


def test_shares_of_paths_add_up_to_the_step_jacobian(point):
    params, state, _, data = point
    found = autodiff.path_jacobians(step, ("square",), 1, *point)
    slope = data["gain"] * (1 - np.tanh(state @ params["U"].T) ** 2)
    np.testing.assert_allclose(found["direct"][..., 0, :, :], slope[..., None] * params["U"], rtol=1e-12)
    square = 2 * params["a"] * state
    np.testing.assert_allclose(found["square"][..., 0, :, :], square[..., None] * np.eye(3), atol=1e-14)


@pytest.mark.parametrize("piece_bytes", [1, 100, 2**18])
def test_the_derivative_of_a_function_of_step_jacobians(point, rng, piece_bytes, monkeypatch):
    """Against central differences of sum(C * J)."""
    monkeypatch.setattr(pieces, "_PIECE_BYTES", piece_bytes)
    params, state, inputs, data = point
    cotangent, h = rng.standard_normal((5, 2, 1, 3, 3)), 1e-6

    def total(params, state):
        return np.sum(cotangent * autodiff.step_jacobian(step, 1, params, state, inputs, data))

    def bilinear(params, state, inputs, left, right, **data):
        return autodiff.bilinear_vjp(step, params, state, inputs, left, right, data)

    of_params, of_state = pieces.jacobian_vjp(bilinear, params, state, inputs, cotangent, data)
    direction = rng.standard_normal(state.shape)
    moved = [total(params, state + sign * h * direction) for sign in (1, -1)]
    assert (of_state * direction).sum() == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=1e-6)
    for name, value in params.items():
        direction = rng.standard_normal(value.shape)
        moved = [total({**params, name: value + sign * h * direction}, state) for sign in (1, -1)]
        expected = (moved[0] - moved[1]) / (2 * h)
        assert (of_params[name] * direction).sum() == pytest.approx(expected, rel=1e-6)
