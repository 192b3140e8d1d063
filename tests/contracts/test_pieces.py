"""The places of pieces."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.contracts.pieces import local


@pytest.mark.parametrize("index", [slice(13, 17), 14, np.array([11, 15])])
def test_places_in_a_part_are_those_in_the_whole(index):
    whole = np.arange(30)
    np.testing.assert_array_equal(whole[10:20][local(index, 10)], whole[index])


def test_a_whole_axis_stays_whole():
    assert local(slice(None), 10) == slice(None)
