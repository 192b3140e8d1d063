"""How parameters start where it is told."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.contracts.start import Start
from gradsim_initializers import Forget, Gaussian, Identity

VALUE = np.arange(12.0).reshape(6, 2)


def test_what_is_not_told_of_stays(rng):
    for factor in "xh1":
        np.testing.assert_array_equal(Start().parameter(rng, VALUE, factor), VALUE)


@pytest.mark.parametrize("factor", ["x", "1", ""])
def test_only_what_sees_the_state_is_scaled(factor, rng):
    start = Start(recurrent_scale=2.0, recurrent_init=Identity())
    np.testing.assert_array_equal(start.parameter(rng, VALUE, factor), VALUE)
    expected = np.tile(2 * np.eye(2), (3, 1))
    np.testing.assert_array_equal(start.parameter(rng, VALUE, "h"), expected)


def test_parts_are_drawn_one_by_one(rng):
    found = Start(input_init=Identity()).parameter(rng, VALUE, "x", 2)
    np.testing.assert_array_equal(found, np.tile(np.eye(3, 2), (2, 1)))
    biases = Start(bias_init=Forget(3.0)).parameter(rng, np.zeros(6), "1", 3, [0, 1, -1])
    np.testing.assert_array_equal(biases, [0, 0, 3, 3, 0, 0])


def test_what_is_told_in_vain():
    start = Start(recurrent_scale=0.5, input_init=Gaussian(), bias_init=Forget())
    assert [option for option, _ in start.lacking("h")] == ["input_init", "bias_init"]
    assert list(start.lacking("xh1")) == []
    assert list(Start().lacking("")) == []
    assert dict(start.lacking("x1")) == {"recurrent_scale": "no weight matrix for the state"}
