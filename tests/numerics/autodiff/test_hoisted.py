"""What is made of parameters alone, once for many steps: the numbers of the step, and their derivatives."""

from __future__ import annotations

import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradsim.numerics.autodiff.hoisted import hoisted, moving


def step(params, state, inputs):
    weight = jnp.tanh(params["U"]).T
    return jnp.where(state > 0, state @ weight, inputs * params["a"]) + params["b"] + 2.0


@pytest.fixture
def given(rng):
    params = {"U": rng.standard_normal((3, 3)), "a": rng.standard_normal(3), "b": rng.standard_normal(3)}
    return params, *rng.standard_normal((2, 5, 3))


def test_both_parts_together_are_the_step(given):
    params, *rest = given
    ahead, then = hoisted(step, *given)
    np.testing.assert_allclose(then(ahead(params), *rest), step(*given), rtol=1e-6)
    ours = jax.grad(lambda p: jnp.sum(then(ahead(p), *rest) ** 2))(params)
    theirs = jax.grad(lambda p: jnp.sum(step(p, *rest) ** 2))(params)
    for name, wanted in theirs.items():
        np.testing.assert_allclose(ours[name], wanted, rtol=1e-5)


def test_what_would_grow_and_what_moves_is_left_to_the_step(given):
    """The weight is made ready; a bias for each sequence is not made ahead."""
    params, *rest = given
    ahead, then = hoisted(step, *given)
    assert {np.size(x) for x in ahead(params)} == {9, 3}
    inside = str(jax.make_jaxpr(then)(ahead(params), *rest))
    assert "tanh" not in inside
    assert "transpose" not in inside


def test_what_a_step_makes_of_nothing_else_comes_through(given):
    params, *rest = given
    for alone in (lambda p, *rest: 2 * p["a"], lambda p, *rest: p["a"], lambda p, s, x: s):
        ahead, then = hoisted(alone, *given)
        np.testing.assert_allclose(then(ahead(params), *rest), alone(*given), rtol=1e-6)


def test_what_moves_is_told_from_what_stays(given):
    def several(params, state, inputs):
        return [params["a"] * 2, state, inputs + params["b"], jnp.ones(2), params["U"]]

    assert moving(several, *given) == [False, True, True, False, False]


def test_a_jax_with_other_traces_makes_nothing_ahead(given, monkeypatch):
    module = sys.modules[hoisted.__module__]
    monkeypatch.setattr(module, "ClosedJaxpr", None)
    params, *rest = given
    ahead, then = hoisted(step, *given)
    assert ahead(params) is params
    np.testing.assert_array_equal(then(ahead(params), *rest), step(*given))
