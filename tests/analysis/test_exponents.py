"""Dimension and entropy from Lyapunov exponents."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr

from gradsim import analysis
from gradsim.errors import InputError


def dataset(values, name="lyapunov", size=None):
    values = np.atleast_2d(values)
    dim = "mode" if name == "lyapunov" else "leading_mode"
    blocks = {"h": size or values.shape[1]}
    return xr.Dataset({name: (("batch", dim), values)}, attrs={"blocks": json.dumps(blocks)})


DIMENSIONS = {
    "henon": ([0.41922, -1.62319], 1 + 0.41922 / 1.62319),
    "lorenz": ([0.9056, 0.0, -14.5723], 2 + 0.9056 / 14.5723),
    "fixed point": ([-0.1, -2.0], 0.0),
    "cycle": ([0.0, -1.0], 1.0),
    "expanding": ([1.0, 0.5], 2.0),
    "annihilated": ([0.5, -np.inf], 1.0),
    "whole in between": ([1.0, -1.0, -2.0], 2.0),
    "not in order": ([-1.62319, 0.41922], 1 + 0.41922 / 1.62319),
}


@pytest.mark.parametrize(("values", "expected"), DIMENSIONS.values(), ids=DIMENSIONS)
def test_the_dimension_of_kaplan_and_yorke(values, expected):
    found = analysis.kaplan_yorke(dataset([values, values]))
    assert found.dims == ("batch",)
    np.testing.assert_allclose(found, [expected] * 2, rtol=1e-14)
    assert expected != DIMENSIONS["henon"][1] or found[0] == pytest.approx(1.25827, abs=1e-5)


def test_the_entropy_is_the_sum_of_what_grows():
    np.testing.assert_allclose(analysis.entropy(dataset([[1.0, 0.5, -2], [-1, -2, -3]])), [1.5, 0])


def test_leading_exponents_may_not_be_enough():
    few = dataset([[1.0, 0.5], [1.0, -0.5], [0.1, -1]], "leading_lyapunov", size=9)
    np.testing.assert_allclose(analysis.kaplan_yorke(few, "leading_lyapunov"), [np.nan, np.nan, 1.1])
    np.testing.assert_allclose(analysis.entropy(few, "leading_lyapunov"), [np.nan, 1, 0.1])


def test_what_was_not_computed_is_nan():
    missing = dataset([[np.nan, -1.0]])
    assert np.isnan(analysis.kaplan_yorke(missing)).all()
    assert np.isnan(analysis.entropy(missing)).all()


def test_the_recorder_is_named_where_it_is_missing():
    with pytest.raises(InputError, match="add the recorder 'lyapunov'"):
        analysis.kaplan_yorke(xr.Dataset())
