"""The types of parameters in words."""

from __future__ import annotations

from typing import Annotated, Literal

import pytest
from annotated_types import Ge, Gt, Le

from gradsim.cli.hints import described


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (int, "int"),
        (Annotated[float, Gt(0)], "float, > 0"),
        (Annotated[float, Ge(0), Le(1)], "float, >= 0, <= 1"),
        (Literal["tanh", "relu"], "one of 'tanh', 'relu'"),
        (int | None, "int or none"),
        (tuple[int, ...], "list of int"),
        (tuple[Annotated[int, Ge(0)], ...] | None, "list of int, >= 0 or none"),
    ],
    ids=str,
)
def test_a_type_in_words(hint, words):
    assert described(hint) == words
