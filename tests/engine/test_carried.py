"""Contributions of many steps at once."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.engine.carried import GradientSum
from gradsim.errors import NonFiniteError, OutOfRangeWarning
from gradsim.numerics.scaled import Scaled
from gradsim_cells import Linear
from gradsim_mitigations import ClipNorm, WeightDecay


def test_contributions_come_from_adjoints_beyond_the_range():
    """Adjoints up to 1e+360 times inputs of 1e-300: each step enters the gradient with its true size."""
    params = {"U": [[8.0]], "W": [[1.0]]}
    ds = gradsim.simulate(
        Linear(1, 1),
        np.full((400, 1, 1), 1e-300),
        params=params,
        record=["contribution_norm", "contribution", "gradient"],
    )
    expected = -300 + np.log10(8) * np.arange(399, -1, -1)
    np.testing.assert_allclose(ds.contribution_norm_log10.sel(param="W"), expected, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(ds.contribution_W[:, 0, 0], 10**expected, rtol=1e-10)


def impulse(steps, size, **setting):
    """h_t = 2 h_{t-1} + x_t in float32, x_1 alone not zero: dL/dU = 2^(steps - 1) size = h_T."""
    inputs = np.zeros((steps, 1, 1))
    inputs[0] = size
    return gradsim.simulate(
        Linear(1, 1), inputs, params={"U": [[2.0]], "W": [[1.0]]}, dtype="float32", **setting
    )


@pytest.mark.parametrize("mitigations", [[], [WeightDecay(0.5)]])
def test_a_gradient_beyond_its_dtype_is_infinite_and_told_once_and_its_norm_is_right(mitigations):
    twins = ["effective_gradient", "effective_gradient_norm"] if mitigations else []
    with pytest.warns(OutOfRangeWarning) as told:
        ds = impulse(140, 2.0**-14, record=["gradient", "gradient_norm", *twins], mitigations=mitigations)
    (message,) = (str(w.message) for w in told)
    for prefix in ("", "effective_")[: 1 + len(mitigations)]:
        assert message.count(f" {prefix}gradient_U (1 of 1, float32)") == 1
        assert ds[f"{prefix}gradient_U"] == np.inf
        assert ds[f"{prefix}gradient_W"] == 2.0**125
        np.testing.assert_allclose(ds[f"{prefix}gradient_norm"], [2.0**125, 139 * 2.0**124], rtol=1e-6)
    assert "_norm (" not in message


def test_a_gradient_beyond_its_dtype_is_refused_before_mitigations_change_it():
    with pytest.raises(
        NonFiniteError, match=r"the gradient of U leaves the range of float32, before .*'float64'"
    ):
        impulse(140, 2.0**-14, record=["effective_gradient"], mitigations=[ClipNorm(1.0)])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("apart", [0, 30, 140, 160, 1000, 1090, 3000])
def test_what_is_small_enters_a_sum_as_far_as_its_digits_reach(apart, dtype):
    """Also where the sum so far is zero in a place, or as small itself as its exponent does not say."""
    rng = np.random.default_rng(apart)
    large, small = rng.standard_normal((2, 5, 4)).astype(dtype)
    large[0], small[1] = 0, 0
    for tiny in (1.0, 2.0**-100):
        total = GradientSum()
        total.add({"W": Scaled((tiny * large).astype(dtype), np.asarray(np.int32(0)))})
        total.add({"W": Scaled(small.copy(), np.asarray(np.int32(-apart)))})
        wide = tiny * large.astype(np.longdouble) + np.ldexp(small.astype(np.longdouble), -apart)
        found = total.parts()["W"]
        made = np.ldexp(found.mantissa.astype(np.longdouble), found.exponent)
        rounding = np.finfo(dtype).eps * np.abs(wide).max()
        np.testing.assert_allclose(made, wide, rtol=0, atol=float(rounding))
        np.testing.assert_array_equal(made[1] != 0, True)
