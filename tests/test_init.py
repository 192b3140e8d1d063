"""The public names: all there, each imported when it is asked for."""

from __future__ import annotations

import pytest

import gradsim


@pytest.mark.parametrize("name", gradsim.__all__)
def test_a_public_name_is_there_and_documented(name):
    assert getattr(gradsim, name).__doc__
    assert name in dir(gradsim)


def test_other_names_are_not():
    with pytest.raises(AttributeError, match="module 'gradsim' has no attribute 'simulat'"):
        _ = gradsim.simulat
