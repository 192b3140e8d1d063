"""What a traced step computes with: values of the array API standard, derivatives of central differences."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from gradsim.numerics import autodiff
from gradsim.numerics.autodiff import standard

INDEX = np.array([2, 0])

# Functions of x (3, 4), elements between 0.2 and 0.8, and of a (3, 3), symmetric and positive definite.
FUNCTIONS = {
    "acos": lambda xp, x, a: xp.acos(x),
    "acosh": lambda xp, x, a: xp.acosh(1 + x),
    "asin": lambda xp, x, a: xp.asin(x),
    "asinh": lambda xp, x, a: xp.asinh(x),
    "atan": lambda xp, x, a: xp.atan(x),
    "atan2": lambda xp, x, a: xp.atan2(x, 1 + x),
    "atanh": lambda xp, x, a: xp.atanh(x),
    "asarray": lambda xp, x, a: x * xp.asarray([1.0, 2.0, 3.0, 4.0]),
    "astype": lambda xp, x, a: xp.astype(x, xp.float64),
    "broadcast_to": lambda xp, x, a: xp.broadcast_to(x, (2, 3, 4)),
    "broadcast_arrays": lambda xp, x, a: xp.broadcast_arrays(x, x[:1, :])[1],
    "clip": lambda xp, x, a: xp.clip(x, min=0.4, max=0.6),
    "concat": lambda xp, x, a: xp.concat((x, a), axis=-1),
    "concat flat": lambda xp, x, a: xp.concat((x, a), axis=None),
    "copysign": lambda xp, x, a: xp.copysign(x, x - 0.5),
    "cumulative_prod": lambda xp, x, a: xp.cumulative_prod(x, axis=0),
    "cumulative_sum": lambda xp, x, a: xp.cumulative_sum(x, axis=-1, include_initial=True),
    "diff": lambda xp, x, a: xp.diff(x, axis=1),
    "expand_dims": lambda xp, x, a: xp.expand_dims(x, axis=0),
    "expm1": lambda xp, x, a: xp.expm1(x),
    "flip": lambda xp, x, a: xp.flip(x, axis=-1) * xp.flip(x),
    "full_like": lambda xp, x, a: xp.full_like(x, 2.0) * x,
    "hypot": lambda xp, x, a: xp.hypot(x, 1 - x),
    "logaddexp": lambda xp, x, a: xp.logaddexp(x, xp.zeros_like(x)),
    "matrix_transpose": lambda xp, x, a: xp.matrix_transpose(x) @ a,
    "max": lambda xp, x, a: xp.max(x, axis=-1, keepdims=True),
    "maximum": lambda xp, x, a: xp.maximum(x, 0.5),
    "mean": lambda xp, x, a: xp.mean(x, axis=0),
    "moveaxis": lambda xp, x, a: xp.moveaxis(x, 0, 1),
    "ones_like": lambda xp, x, a: xp.ones_like(x) * x,
    "permute_dims": lambda xp, x, a: xp.permute_dims(x, (1, 0)),
    "positive": lambda xp, x, a: xp.positive(x),
    "pow": lambda xp, x, a: xp.pow(x, 1 + x),
    "prod": lambda xp, x, a: xp.prod(x, axis=-1),
    "reciprocal": lambda xp, x, a: xp.reciprocal(x),
    "remainder": lambda xp, x, a: xp.remainder(x, 0.37),
    "repeat": lambda xp, x, a: xp.repeat(x, 2, axis=-1),
    "reshape": lambda xp, x, a: xp.reshape(x, (2, 6)),
    "roll": lambda xp, x, a: xp.roll(x, 1, axis=-1),
    "slices": lambda xp, x, a: x[1:, ::-2] * x[:2, None, 0, ...],
    "slices of slices": lambda xp, x, a: x[..., :3][-1, :] * a[0, :],
    "sign": lambda xp, x, a: xp.sign(x - 0.5) * x,
    "sort": lambda xp, x, a: xp.sort(x, axis=0, descending=True),
    "squeeze": lambda xp, x, a: xp.squeeze(x[None, ...], axis=0),
    "stack": lambda xp, x, a: xp.stack((x, x * x), axis=1),
    "std": lambda xp, x, a: xp.std(x, axis=-1, correction=1.0),
    "take": lambda xp, x, a: xp.take(x, xp.asarray(INDEX), axis=-1),
    "take_along_axis": lambda xp, x, a: xp.take_along_axis(x, xp.argsort(x, axis=-1), axis=-1),
    "tensordot": lambda xp, x, a: xp.tensordot(a, x, axes=1),
    "tile": lambda xp, x, a: xp.tile(x, (2, 1, 3)),
    "tril": lambda xp, x, a: xp.tril(x),
    "unstack": lambda xp, x, a: xp.unstack(x, axis=1)[2],
    "var": lambda xp, x, a: xp.var(x, axis=0, keepdims=True),
    "vecdot": lambda xp, x, a: xp.vecdot(x, x * x),
    "where": lambda xp, x, a: xp.where(x > 0.5, x * x, 0.0),
    "linalg.cholesky": lambda xp, x, a: xp.linalg.cholesky(a + xp.matrix_transpose(a)),
    "linalg.cross": lambda xp, x, a: xp.linalg.cross(a, a * a),
    "linalg.det": lambda xp, x, a: xp.linalg.det(a),
    "linalg.diagonal": lambda xp, x, a: xp.linalg.diagonal(x, offset=1),
    "linalg.eigvalsh": lambda xp, x, a: xp.linalg.eigvalsh(a + xp.matrix_transpose(a)),
    "linalg.inv": lambda xp, x, a: xp.linalg.inv(a),
    "linalg.matrix_norm": lambda xp, x, a: xp.linalg.matrix_norm(x),
    "linalg.matrix_norm 1": lambda xp, x, a: xp.linalg.matrix_norm(x, ord=1, keepdims=True),
    "linalg.matrix_norm 2": lambda xp, x, a: xp.linalg.matrix_norm(a, ord=2),
    "linalg.matrix_power": lambda xp, x, a: xp.linalg.matrix_power(a, -2),
    "linalg.outer": lambda xp, x, a: xp.linalg.outer(x[0, :], a[1, :]),
    "linalg.solve": lambda xp, x, a: xp.linalg.solve(a, x),
    "linalg.svdvals": lambda xp, x, a: xp.linalg.svdvals(x),
    "linalg.trace": lambda xp, x, a: xp.linalg.trace(a),
    "linalg.vector_norm": lambda xp, x, a: xp.linalg.vector_norm(x, axis=-1),
    "linalg.vector_norm 3": lambda xp, x, a: xp.linalg.vector_norm(x, ord=3),
    "linalg.vector_norm inf": lambda xp, x, a: xp.linalg.vector_norm(x, axis=-1, ord=float("inf")),
}


@pytest.fixture
def arguments(rng):
    x = rng.permuted(np.linspace(0.2, 0.8, 12)).reshape(3, 4)
    root = rng.standard_normal((3, 3))
    return x, root @ root.T + 2 * np.eye(3)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_values_are_those_of_the_standard(name, arguments):
    function, strict = FUNCTIONS[name], array_api_strict
    found = function(autodiff.xp, *arguments)
    expected = np.asarray(function(strict, *(strict.asarray(x) for x in arguments)))
    assert np.shape(found) == expected.shape
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_derivatives_are_those_of_differences(name, arguments, rng):
    function, h = FUNCTIONS[name], 1e-6
    weights = rng.standard_normal(np.shape(function(autodiff.xp, *arguments)))
    slopes, _ = autodiff.gradient(lambda both: weights * function(autodiff.xp, *both), arguments)
    for i, slope in enumerate(slopes):
        way = rng.standard_normal(slope.shape)
        ends = [[x + s * way if i == j else x for j, x in enumerate(arguments)] for s in (h, -h)]
        up, down = (np.sum(weights * function(autodiff.xp, *moved)) for moved in ends)
        assert np.sum(slope * way) == pytest.approx((up - down) / (2 * h), rel=1e-6, abs=1e-7)


def test_places_that_are_met_twice_count_twice():
    def function(x):
        return x[np.array([1, 1]), 1:] * x[[0, 2], 1:] * x[True, :1, :3][0]

    slope, _ = autodiff.gradient(function, np.ones((3, 4)))
    np.testing.assert_array_equal(slope, [[2, 3, 3, 1], [0, 2, 2, 2], [0, 1, 1, 1]])


def test_the_slope_of_tanh_far_out_is_zero_without_overflow():
    with np.errstate(all="raise"):
        slope, _ = autodiff.gradient(autodiff.xp.tanh, np.array([-1e4, 0.0, 1e4]))
    np.testing.assert_array_equal(slope, [0, 1, 0])


def test_it_has_all_names_of_the_standard_and_no_others():
    for name in standard.NAMES:
        getattr(autodiff.xp, name)
    for name in standard.LINALG:
        getattr(autodiff.xp.linalg, name)
    with pytest.raises(AttributeError, match=r"xp\.concatenate is no name .*; use xp\.concat"):
        autodiff.xp.concatenate  # noqa: B018
    with pytest.raises(AttributeError, match=r"xp\.linalg\.norm is no name .*; use xp\.linalg\.vector_norm"):
        autodiff.xp.linalg.norm  # noqa: B018


@pytest.mark.parametrize(
    ("name", "cure"),
    [("arctanh", "xp.atanh"), ("power", "xp.pow"), ("tanhh", "xp.tanh"), ("svd", "xp.linalg.svd")],
)
def test_the_nearest_name_is_offered(name, cure):
    assert standard.cure(name) == cure
