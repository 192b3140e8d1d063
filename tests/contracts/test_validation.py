"""Values checked against annotations, and what is wrong with them in words."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from annotated_types import MinLen

from gradsim.contracts.validation import bound, checking, mistakes, types_of
from gradsim.errors import InputError, UnknownNameError
from gradsim.types import PositiveInt


@dataclass
class Sizes:
    """Of anything."""

    count: PositiveInt
    names: tuple[str, ...] = ()
    kind: Literal["dense", "diagonal"] = "dense"
    scale: float = 1.0


@dataclass
class Places:
    """Of anything, too."""

    places: tuple[int, ...] = ()
    named: Annotated[tuple[str | Sizes, ...], MinLen(1)] = ("a",)


def test_values_are_plain_and_of_their_kind():
    given = {"count": np.int64(3), "names": ["a"], "kind": "dense", "scale": 2}
    found = types_of(Sizes).values(given)
    assert found == {"count": 3, "names": ("a",), "kind": "dense", "scale": 2.0}
    assert (type(found["count"]), type(found["scale"])) == (int, float)


@pytest.mark.parametrize("places", [[1, 2], (np.int32(1), 2), np.array([1, 2]), range(1, 3)])
def test_a_tuple_of_numbers_is_taken_from_whatever_holds_some(places):
    assert types_of(Places).values({"places": places}) == {"places": (1, 2)}


def test_every_mistake_has_its_key_and_value():
    given = {"count": 0, "names": ("a", 3), "kind": "sparse", "scale": float("nan")}
    assert mistakes(Sizes, given) == {
        "count": "should be greater than 0 (got 0)",
        "names.1": "should be a valid string (got 3)",
        "kind": "should be 'dense' or 'diagonal' (got 'sparse')",
        "scale": "should be a finite number (got nan)",
    }
    assert mistakes(Sizes, {"count": 2**63}) == {
        "count": "should be below 2**63 in size (got 9223372036854775808)"
    }
    assert mistakes(Sizes, {"count": 10**5000})["count"].endswith("(got an int of 16610 bits)")


@pytest.mark.parametrize("places", [(1.5,), (True,), np.array([1.0]), np.array([True]), "12", {1, 2}, 3])
def test_what_is_no_whole_number_is_none(places):
    assert list(mistakes(Places, {"places": places})) in (["places"], ["places.0"])


def test_the_types_that_a_value_may_have_are_told_together():
    assert mistakes(Places, {"named": (3,)}) == {
        "named.0": "should be a valid string or an instance of Sizes (got 3)"
    }
    assert mistakes(Places, {"named": ()}) == {"named": "should not be empty (got ())"}
    assert mistakes(Places, {"named": (Sizes,)})["named.0"].startswith(
        "should be a valid string or an instance of Sizes; call the class"
    )


def test_mistakes_are_those_of_what_was_given():
    assert mistakes(Sizes, {"names": 3}) == {"names": "should be a list (got 3)"}
    assert mistakes(Sizes, {"names": "h"}) == {"names": "should be a list, such as ['h'] (got 'h')"}
    assert mistakes(Sizes, {"count": 2}) == {}


@checking
def measured(sizes: Sizes, *others: Sizes, scale: float = 1.0, how: str | None = None, **options: Any):
    """Measure."""
    return sizes, others, scale, how, options


def test_a_checking_function_takes_what_fits():
    one, two = Sizes(1), Sizes(2)
    assert measured(one) == (one, (), 1.0, None, {})
    assert measured(one, two, scale=np.float32(2), more=3) == (one, (two,), 2.0, None, {"more": 3})
    assert measured(sizes=one, how="so")[3] == "so"
    assert measured.__doc__ == "Measure."


@pytest.mark.parametrize(
    ("args", "kwargs", "error", "message"),
    [
        ((), {}, InputError, r"^measured\(\) needs sizes$"),
        ((3,), {}, InputError, r"^sizes should be an instance of Sizes \(got 3\)$"),
        ((Sizes(1), 3), {}, InputError, r"^others.0 should be an instance of Sizes \(got 3\)$"),
        (
            (Sizes(1),),
            {"scale": True, "how": 3},
            InputError,
            r"^scale should be .*; how should be a v",
        ),
        ((Sizes(1),), {"sizes": 3}, InputError, r"^measured\(\) is given sizes twice"),
    ],
)
def test_a_checking_function_names_what_does_not_fit(args, kwargs, error, message):
    with pytest.raises(error, match=message):
        measured(*args, **kwargs)


def test_arguments_that_nobody_knows_or_has_room_for():
    taken = inspect.signature(lambda place, *, name=3: None).parameters
    assert bound("find", taken, (1,), {"name": 2}) == {"place": 1, "name": 2}
    with pytest.raises(UnknownNameError, match=r"unknown argument of find\(\) 'nmae'; did you mean 'name'"):
        bound("find", taken, (1,), {"nmae": 2})
    with pytest.raises(InputError, match=r"find\(\) takes place by position, and 2 .* by name: name"):
        bound("find", taken, (1, 2), {})


def test_a_list_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)
    with pytest.raises(InputError, match=r"names should not hold itself \(got \[\[...\]\]\)"):
        types_of(Sizes).values({"names": endless})
