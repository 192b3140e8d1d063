"""Values checked against annotations, and what is wrong with them in words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pytest
from pydantic import ValidationError

from gradsim.contracts.validation import mistakes, phrases, validated
from gradsim.types import PositiveInt


@dataclass
class Sizes:
    """Of anything."""

    count: PositiveInt
    names: tuple[str, ...] = ()
    kind: Literal["dense", "diagonal"] = "dense"
    scale: float = 1.0


def test_values_are_plain_and_of_their_kind():
    found = validated(Sizes, {"count": np.int64(3), "names": ("a",), "kind": "dense", "scale": 2})
    assert found == {"count": 3, "names": ("a",), "kind": "dense", "scale": 2.0}
    assert (type(found["count"]), type(found["scale"])) == (int, float)


def test_every_mistake_has_its_key_and_value():
    given = {"count": 0, "names": ("a", 3), "kind": "sparse", "scale": float("nan")}
    with pytest.raises(ValidationError) as caught:
        validated(Sizes, given)
    assert dict(phrases(caught.value)) == {
        "count": "should be greater than 0 (got 0)",
        "names.1": "should be a valid string (got 3)",
        "kind": "should be 'dense' or 'diagonal' (got 'sparse')",
        "scale": "should be a finite number (got nan)",
    }


def test_mistakes_are_those_of_what_was_given():
    assert mistakes(Sizes, {"names": 3}) == {"names": "should be a list (got 3)"}
    assert mistakes(Sizes, {"count": 2}) == {}
