"""The names of the array API standard, and what to write in place of others."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.numerics.autodiff.standard import LINALG, NAMES, Namespace, NotStandard, cure, is_standard


@pytest.mark.parametrize("name", sorted(NAMES))
def test_numpy_has_every_name(name):
    assert hasattr(np, name)
    assert is_standard(name)


@pytest.mark.parametrize("name", sorted(LINALG))
def test_numpy_has_every_name_of_linear_algebra(name):
    assert hasattr(np.linalg, name)
    assert is_standard(f"linalg.{name}")


@pytest.mark.parametrize(
    ("name", "instead"),
    [
        ("concatenate", "xp.concat"),
        ("arctan2", "xp.atan2"),
        ("linalg.norm", "xp.linalg.vector_norm"),
        ("tanh", "xp.tanh"),
        ("inv", "xp.linalg.inv"),
        ("expand_dim", "xp.expand_dims"),
        ("nothing_like_it", "functions of the standard"),
    ],
)
def test_what_to_write_instead(name, instead):
    assert cure(name) == instead


def test_a_namespace_has_its_names_and_no_others():
    xp = Namespace("xp", {"tanh": np.tanh})
    assert xp.tanh(0.0) == 0
    with pytest.raises(NotStandard, match=r"xp\.vstack is no name of the array API standard; use xp\.concat"):
        _ = xp.vstack
    assert not hasattr(xp, "arctanh")
