"""Errors: all are gradsim's, and also what Python calls such a mistake."""

from __future__ import annotations

import pytest

from gradsim import errors
from gradsim.errors import GradsimError, shown, unknown

KINDS = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]


@pytest.mark.parametrize("error", [e for e in KINDS if not issubclass(e, Warning)])
def test_every_error_can_be_caught_as_one_of_gradsim(error):
    assert issubclass(error, GradsimError)
    assert error.__doc__


@pytest.mark.parametrize(
    ("name", "also"),
    [
        ("InputError", ValueError),
        ("UnknownNameError", LookupError),
        ("NonFiniteError", ArithmeticError),
        ("BudgetError", MemoryError),
        ("StoreError", OSError),
    ],
)
def test_errors_are_those_of_python_too(name, also):
    assert issubclass(getattr(errors, name), also)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("lsmt", "unknown cell 'lsmt'; did you mean 'lstm'? Known: gru, lstm"),
        ("LSTM", "unknown cell 'LSTM'; did you mean 'lstm'? Known: gru, lstm"),
        ("xyz", "unknown cell 'xyz'. Known: gru, lstm"),
        (3, "unknown cell 3. Known: gru, lstm"),
    ],
)
def test_an_unknown_name_offers_the_nearest(name, message):
    assert str(unknown("cell", name, ["lstm", "gru"])) == message
    assert str(unknown("cell", "x", [])).endswith("Known: none")


class Unspeakable:
    def __repr__(self):
        raise KeyError("nothing")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a\n", "'a\\n'"),
        (10**5000, "an int of 16610 bits"),
        ([10**5000], "a list"),
        (Unspeakable(), "a Unspeakable"),
        ("x" * 5000, f"'{'x' * 199}..."),
    ],
    ids=["plain", "digits", "within", "own", "long"],
)
def test_a_value_in_a_message_is_short_and_never_an_error_itself(value, text):
    assert shown(value) == text
    assert text in str(unknown("cell", value, ["lstm"]))
