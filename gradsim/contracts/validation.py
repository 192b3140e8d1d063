"""Values checked against annotations, and what is wrong with them in words."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError, create_model

from gradsim.errors import InputError, shown, unknown

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")

_OWN = "own_"
"""Before the names of values: pydantic takes some names, such as `validate`, for itself."""

_STRICT = ConfigDict(
    strict=True,
    arbitrary_types_allowed=True,
    allow_inf_nan=False,
    alias_generator=lambda name: name.removeprefix(_OWN),
)


class Types:
    """What named values should be."""

    def __init__(self, hints: Mapping[str, Any]) -> None:
        self._many = {name for name, hint in hints.items() if holds_many(hint)}
        self._whole = {name for name, hint in hints.items() if _mentions(hint, int)}
        fields: Any = {f"{_OWN}{name}": (hint, None) for name, hint in hints.items()}
        self._model: type[BaseModel] = create_model("Values", __config__=_STRICT, **fields)

    def checked(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
        """Values as the hints have them, and what is wrong with others: dotted key -> phrase."""
        plain: dict[str, Any] = {}
        wrong: dict[str, str] = {}
        for name, value in given.items():
            try:
                plain[name] = _plain(value, name in self._many)
            except ValueError as error:
                wrong[name] = str(error)
            except RecursionError:
                wrong[name] = f"should not hold itself (got {shown(value)})"
        try:
            found = vars(self._model.model_validate(plain))
        except ValidationError as error:
            return {}, wrong | _phrases(error, plain)
        values = {name: found[f"{_OWN}{name}"] for name in plain}
        beyond = {n: values[n] for n in self._whole & values.keys() if _beyond(values[n])}
        wrong |= {name: f"should be below 2**63 in size (got {shown(v)})" for name, v in beyond.items()}
        return values, wrong

    def values(self, given: Mapping[str, Any], title: str = "") -> dict[str, Any]:
        """Values as the hints have them.

        Raises
        ------
        InputError
            With all that is wrong.
        """
        values, wrong = self.checked(given)
        if wrong:
            what = "; ".join(f"{where} {what}" for where, what in wrong.items())
            raise InputError(f"{title}: {what}" if title else what)
        return values


@functools.cache
def types_of(cls: type) -> Types:
    """Those of the fields of a dataclass."""
    hints = get_type_hints(cls, include_extras=True)
    return Types({f.name: hints[f.name] for f in dataclasses.fields(cls)})


def settle(made: Any, title: str) -> None:
    """Check all fields of a frozen dataclass that is being made, and set them to what they should be.

    Raises
    ------
    InputError
        With all that is wrong.
    """
    given = {f.name: getattr(made, f.name) for f in dataclasses.fields(made)}
    kind: type = type(made)
    for name, value in types_of(kind).values(given, title).items():
        object.__setattr__(made, name, value)


def refuse_reversed(made: Any, low: str, high: str, why: str = "") -> None:
    """Raise InputError where the first of two fields is larger than the second."""
    least, most = getattr(made, low), getattr(made, high)
    if not least <= most:
        raise InputError(
            f"{type(made).__name__}: {low} <= {high} is needed{why} (got {low}={least}, {high}={most})"
        )


def mistakes(cls: type, given: Mapping[str, Any]) -> dict[str, str]:
    """What is wrong with some values of the fields of a dataclass: dotted key -> phrase."""
    return types_of(cls).checked(given)[1]


# Arguments.


def bound(
    name: str, parameters: Mapping[str, inspect.Parameter], args: Sequence[Any], kwargs: Mapping[str, Any]
) -> dict[str, Any]:
    """The arguments of a call, by name.

    Raises
    ------
    InputError, UnknownNameError
        There are too many or too few, or one that nobody knows.
    """
    places, rest = _by_position(parameters)
    named = [p.name for p in parameters.values() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    if len(args) > len(places) and rest is None:
        raise InputError(
            f"{name}() takes {', '.join(places) or 'nothing'} by position, and {len(args)} values are given; "
            f"give the others by name: {', '.join(n for n in named if n not in places) or 'there are none'}"
        )
    given = dict(zip(places, args, strict=False))
    if rest is not None:
        given[rest] = tuple(args[len(places) :])
    anything = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for key in kwargs:
        if key in given:
            raise InputError(f"{name}() is given {key} twice, by position and by name; leave one out")
        if key not in named and not anything:
            raise unknown(f"argument of {name}()", key, named)
    given |= kwargs
    if lacking := [n for n, p in parameters.items() if n not in given and _is_required(p)]:
        raise InputError(f"{name}() needs {', '.join(lacking)}")
    return given


def _by_position(parameters: Mapping[str, inspect.Parameter]) -> tuple[list[str], str | None]:
    """The names of what may be given by position, and of what takes all further values."""
    all_of_them = parameters.values()
    places = [p.name for p in all_of_them if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return places, next((p.name for p in all_of_them if p.kind is p.VAR_POSITIONAL), None)


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is parameter.empty and parameter.kind not in (
        parameter.VAR_POSITIONAL,
        parameter.VAR_KEYWORD,
    )


def arguments(
    name: str,
    parameters: Mapping[str, inspect.Parameter],
    types: Types,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
) -> dict[str, Any]:
    """The arguments of a call by name, as their types have them.

    Raises
    ------
    InputError, UnknownNameError
        With all that is wrong.
    """
    given = bound(name, parameters, args, kwargs)
    values, wrong = types.checked({n: value for n, value in given.items() if n in parameters})
    if wrong:
        what = "; ".join(f"{where} {what}" for where, what in wrong.items())
        places = _by_position(parameters)[0]
        if len(args) > 1 and wrong.keys() & set(places):
            what += f"; the order is {name}({', '.join(places)})"
        raise InputError(what)
    return given | values


def checking(function: Callable[P, R]) -> Callable[P, R]:
    """Let a public function check its arguments against its annotations before it is called."""
    parameters = inspect.signature(function).parameters
    places, rest = _by_position(parameters)

    @functools.cache
    def types() -> Types:
        hints = get_type_hints(function, include_extras=True)
        taken = {n: hints[n] for n, p in parameters.items() if n in hints and p.kind is not p.VAR_KEYWORD}
        if rest:
            taken[rest] = tuple[taken[rest], ...]  # type: ignore[valid-type]
        return Types(taken)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        given = arguments(function.__name__, parameters, types(), args, kwargs)
        first = [given.pop(name) for name in places if name in given] if rest else []
        return function(*first, *given.pop(rest, ()), **given)  # type: ignore[arg-type]

    return call


def constructed(cls: type[T]) -> type[T]:
    """Let a public class say by name which of its parameters is missing or unknown."""
    make: Any = cls.__init__
    parameters = dict(list(inspect.signature(make).parameters.items())[1:])

    @functools.wraps(make)
    def init(self: T, *args: Any, **kwargs: Any) -> None:
        try:
            make(self, *args, **kwargs)
        except TypeError:
            bound(cls.__name__, parameters, args, kwargs)
            raise

    cls.__init__ = init  # type: ignore[assignment]
    return cls


# Words.


def _phrase(*, type: str, msg: str, input: Any, **_: Any) -> str:
    """One mistake of a validation in words."""
    return "is missing" if type == "missing" else f"{_needed(type, msg, input)} (got {shown(input)})"


def _needed(kind: str, msg: str, value: Any) -> str:
    what = msg.removeprefix("Input ").removeprefix("Value error, ")
    what = f"{what[:1].lower()}{what[1:]}"
    match kind:
        case "model_type":
            return 'should be a table with a name, such as { name = "..." }'
        case "dict_type":
            return "should be a table"
        case "tuple_type" | "list_type" | "sequence_str":
            word = isinstance(value, str) and value.isidentifier()
            return f"should be a list{f', such as [{value!r}]' * word}"
        case "is_instance_of" if msg.endswith("of Sequence"):
            return "should be a list"
        case "is_instance_of" if msg.endswith("of PathLike"):
            return "should be a path"
        case "too_short":
            return "should not be empty"
        case "string_pattern_mismatch":
            return "should be made of letters, digits and . _ - to name a folder"
        case "is_instance_of" | "dataclass_exact_type" | "dataclass_type" if isinstance(value, type):
            return f"{what}; call the class"
    return what


def _phrases(error: ValidationError, given: Any) -> dict[str, str]:
    """Dotted key -> what is wrong with the value there; it may be what several types needed."""
    found: dict[str, list[dict[str, Any]]] = {}
    for mistake in error.errors():
        if mistake["type"] == "too_short" and len(mistake["input"]):
            continue  # pydantic does not count items that are wrong themselves
        found.setdefault(".".join(_place(mistake["loc"], given)), []).append(dict(mistake))
    return {where: phrases(several) for where, several in found.items()}


def phrases(several: list[dict[str, Any]]) -> str:
    """The mistakes of one value in words; there are several where it may be of several types."""
    if len(several) == 1:
        return _phrase(**several[0])
    needed = dict.fromkeys(_needed(m["type"], m["msg"], m["input"]) for m in several)
    first, *others = needed
    more = "".join(f" or {what.removeprefix('should be ')}" for what in others)
    return f"{first}{more} (got {shown(several[0]['input'])})"


def _place(loc: tuple[int | str, ...], value: Any) -> Iterator[str]:
    """Where a mistake is, without the types that pydantic tried there."""
    for key in loc:
        within = isinstance(value, Mapping) or (isinstance(value, list | tuple) and isinstance(key, int))
        if within and (isinstance(key, int) or key in value):
            yield str(key)
            try:
                value = value[key]
            except LookupError:
                value = None


def holds_many(hint: Any) -> bool:
    """Whether an annotation is that of a tuple or a sequence, or has one in it."""
    return get_origin(hint) in (tuple, Sequence) or any(map(holds_many, get_args(hint)))


def _mentions(hint: Any, kind: type) -> bool:
    return hint is kind or any(_mentions(part, kind) for part in get_args(hint))


def _plain(value: Any, many: bool) -> Any:
    """Scalars of NumPy as Python's; where `many` are wanted, lists, ranges and arrays as tuples."""
    if isinstance(value, np.generic):
        return value.item()
    if not many:
        return unmasked(value)
    if hasattr(value, "__array__") and hasattr(value, "dtype") and not isinstance(value, type):
        value = np.ma.asarray(value).tolist()
    return tuple(_plain(v, many) for v in value) if isinstance(value, list | tuple | range) else value


def _beyond(value: Any) -> bool:
    """Whether a whole number, or one of many, is larger than any size of an array can be."""
    if isinstance(value, tuple):
        return any(map(_beyond, value))
    return isinstance(value, int) and value.bit_length() >= 64


def unmasked(value: Any) -> Any:
    """A masked array without its mask, which masks nothing.

    Raises
    ------
    ValueError
        It masks something.
    """
    if not isinstance(value, np.ma.MaskedArray):
        return value
    if count := int(np.ma.getmaskarray(value).sum()):
        raise ValueError(f"has {count} masked entries; fill them in (.filled) or leave them out")
    return np.ma.getdata(value)
