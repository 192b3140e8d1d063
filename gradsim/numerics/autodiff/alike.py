"""When two steps compute the same: what has been compiled for one then serves the other."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Hashable, Iterator
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
_LOOKED_INTO = (*_PLAIN, np.ndarray, tuple, list, dict, set, frozenset)
"""Anything else is the same as long as it is the same object, with the same plain values and arrays in it."""

_LIBRARIES = ("autograd", "gradsim", "jax", "jaxlib", "math", "numpy", "scipy", "torch")


def look(function: Any) -> Hashable:
    """What a function, or a method of an object, makes its numbers of besides its arguments.

    That is what the object holds, and what code names outside: constants of classes, modules and closures.
    """
    owner, written = getattr(function, "__self__", None), getattr(function, "__func__", function)
    return written, _value(owner), _values(_named(written, set()))


def _value(value: Any) -> Hashable:
    match value:
        case np.ndarray():
            return value.shape, value.dtype.str, value.tobytes()
        case tuple() | list():
            return type(value), *map(_value, value)
        case dict():
            return dict, *((_value(k), _value(v)) for k, v in value.items())
        case set() | frozenset():
            return type(value), frozenset(map(_value, value))
    if isinstance(value, _PLAIN):
        return type(value), repr(value)
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return type(value), _values(_held(value)), _values(_of_class(type(value)))
    if isinstance(value, ModuleType | type) or _is_settled(value):
        return _Same(value)
    held = getattr(value, "__dict__", {}).items()
    return _Same(value), *((name, _value(x)) for name, x in held if isinstance(x, (*_PLAIN, np.ndarray)))


class _Same:
    """An object by its identity; it is kept, so that no other one takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _values(named: Iterator[tuple[str, Any]]) -> Hashable:
    return tuple((name, _value(value)) for name, value in named)


def _held(value: Any) -> Iterator[tuple[str, Any]]:
    """What an object holds, but for what it makes of the rest when it is asked."""
    for name in vars(value) if hasattr(value, "__dict__") else value.__dataclass_fields__:
        if not isinstance(getattr(type(value), name, None), functools.cached_property):
            yield name, getattr(value, name)


def _of_class(cls: type) -> Iterator[tuple[str, Any]]:
    """The constants of a class and of those that it is made of, and what their methods name."""
    seen = set[Any]()
    for base in cls.__mro__[:-1]:
        if _is_settled(base):
            continue
        for name, member in vars(base).items():
            if isinstance(member, _LOOKED_INTO) and not name.startswith("__"):
                yield name, member
            for inner in (member, *(getattr(member, a, None) for a in ("__func__", "fget", "func"))):
                yield from _named(inner, seen)


def _named(function: Any, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """What the code of a function, and of the functions that it calls by name, reads outside."""
    if not isinstance(function, FunctionType) or function.__code__ in seen:
        return
    seen.add(function.__code__)
    # Another one may have taken its place.
    yield function.__name__, (function.__code__, function.__defaults__, function.__kwdefaults__)
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # it is empty
            yield from _outside(name, cell.cell_contents, function.__code__, seen)
    for code in _codes(function.__code__):
        for name in code.co_names:
            if name in function.__globals__:
                yield from _outside(name, function.__globals__[name], code, seen)


def _outside(name: str, value: Any, code: CodeType, seen: set[Any]) -> Iterator[tuple[str, Any]]:
    """A value that a piece of code names; of a module, a class or an object what the code reads of it too."""
    if isinstance(value, FunctionType) and not _is_settled(value):
        yield from _named(value, seen)
        return
    yield name, value
    if isinstance(value, _LOOKED_INTO) or _is_settled(value) or (id(value), code) in seen:
        return
    seen.add((id(value), code))
    held = getattr(value, "__dict__", {})
    for read in code.co_names:
        if read in held:
            yield from _outside(read, held[read], code, seen)


def _is_settled(value: Any) -> bool:
    """Whether a module, class or function belongs to a library, which changes nothing while it runs."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return str(name).partition(".")[0] in _LIBRARIES


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A piece of code and those inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)
