"""All that is promised to authors of plugins."""

from __future__ import annotations

import pytest

import gradsim
from gradsim import contracts


@pytest.mark.parametrize("name", contracts.__all__)
def test_what_is_promised_is_a_name_of_gradsim_too(name):
    assert name in gradsim.__all__
    # One marker of hooks is as good as another.
    assert getattr(gradsim, name) is getattr(contracts, name) or name == "hookimpl"
