"""Named arrays of a model from elsewhere: each is taken, with the shape that is needed."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.contracts.layout import Arrays
from gradsim.errors import InputError, UnknownNameError

GIVEN = {"kernel": np.ones((2, 3), np.float32), "bias": np.ones(3)}


def test_arrays_are_float64_and_have_the_shape_that_is_needed():
    arrays = Arrays(GIVEN, "mine")
    assert arrays["kernel"].dtype == np.float64
    assert arrays.take("bias", (3,)).shape == (3,)
    with pytest.raises(InputError, match=r"mine: kernel has shape \(2, 3\), where \(3, 2\) is needed"):
        arrays.take("kernel", (3, 2))


def test_to_look_is_not_to_take():
    arrays = Arrays(GIVEN, "mine")
    assert "bias" in arrays
    assert "recurrent" not in arrays
    assert sorted(arrays) == ["bias", "kernel"]
    assert len(arrays) == 2
    assert arrays["kernel"].any()
    with pytest.raises(InputError, match="mine: bias would not be used; leave them out"):
        arrays.refuse_rest()
    assert arrays["bias"].any()
    arrays.refuse_rest()


def test_a_name_that_is_not_there_offers_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown weight of mine 'kernal'; did you mean 'kernel'"):
        Arrays(GIVEN, "mine")["kernal"]
