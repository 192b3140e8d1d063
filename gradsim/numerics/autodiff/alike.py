"""When two steps compute the same: what has been compiled for one then serves the other."""

from __future__ import annotations

import dis
import functools
import operator
import sys
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np

from gradsim.types import Array

_PLAIN = (bool, int, float, complex, str, bytes, type(None), np.generic)
_LOOKED_INTO = (*_PLAIN, np.ndarray, tuple, list, dict, set, frozenset)
"""Anything else, but for dataclasses, is the same as long as it is the same object and holds the same."""

_LIBRARIES = ("autograd", "gradsim", "jax", "jaxlib", "math", "numpy", "scipy", "torch")

_MISSING = object()

_KEPT = 64
"""Functions whose look is remembered."""

_remembered: OrderedDict[Any, tuple[Any, _Look, Hashable]] = OrderedDict()


def look(function: Any) -> Hashable:
    """What a function, or a method of an object, makes its numbers of besides its arguments.

    That is what the object holds, and what code names outside: constants of classes, modules and closures.
    """
    owner, written = getattr(function, "__self__", None), getattr(function, "__func__", function)
    # To see that all that was read is still there takes a tenth of the time to read it.
    before = _remembered.pop((written, id(owner)), None)
    if before is not None and before[0] is owner and before[1].holds():
        found = before
    else:
        new = _Look()
        found = owner, new, (written, new.value(owner), new.values(new.named(written)))
    _remembered[written, id(owner)] = found
    while len(_remembered) > _KEPT:
        _remembered.popitem(last=False)
    return found[2]


class _Look:
    """A walk through all that a function reads, which notes where each thing was found."""

    def __init__(self) -> None:
        self._found: list[tuple[Callable[[Any], Any], Any, Any]] = []
        self._named: list[tuple[Mapping[str, Any], str, Any]] = []
        self._held: list[tuple[Any, dict[str, Any]]] = []
        self._listed: list[tuple[Callable[[Any], list[Any]], Any, list[Any]]] = []
        self._numbers: list[tuple[Array, Hashable]] = []
        self._seen, self._around = set[Any](), set[int]()

    def holds(self) -> bool:
        """Whether another walk would find the same."""
        return (
            all(get(of) is value for get, of, value in self._found)
            and all(names.get(name, _MISSING) is value for names, name, value in self._named)
            and all(_holds(owner, held) for owner, held in self._held)
            and all(_are(parts(of), before) for parts, of, before in self._listed)
            and all(_numbers(array) == before for array, before in self._numbers)
        )

    def value(self, value: Any) -> Hashable:
        if isinstance(value, _PLAIN):
            return type(value), repr(value)
        if isinstance(value, tuple):
            return type(value), *map(self.value, value)
        if isinstance(value, np.ndarray):
            if value.dtype.hasobject:
                return np.ndarray, *map(self.value, self._parts(_items, value))
            self._numbers.append((value, now := _numbers(value)))
            return now
        if isinstance(value, ModuleType | type | CodeType) or _is_settled(value) or id(value) in self._around:
            return _Same(value)
        self._around.add(id(value))  # it may hold itself
        try:
            return self._inside(value)
        finally:
            self._around.remove(id(value))

    def _inside(self, value: Any) -> Hashable:
        if isinstance(value, list | dict):
            return type(value), *map(self.value, self._parts(_items, value))
        if isinstance(value, set | frozenset):
            return type(value), frozenset(map(self.value, self._parts(list, value)))
        if isinstance(value, FunctionType):
            return _Same(value), self.values(self.named(value))
        cls = self._get(type, value)
        if hasattr(value, "__dataclass_fields__"):
            return cls, self.values(self._fields(value)), self.values(self._of_class(cls))
        held = tuple(map(self.value, self._parts(_copied, value))) if self._is_new(id(value)) else ()
        return _Same(value), held, self.values(self._of_class(cls))

    def values(self, named: Iterator[tuple[str, Any]]) -> Hashable:
        return tuple((name, self.value(value)) for name, value in named)

    def named(self, function: Any) -> Iterator[tuple[str, Any]]:
        """What the code of a function, and of the functions that it calls by name, reads outside."""
        if not isinstance(function, FunctionType) or not self._is_new(function):
            return
        whole = self._get(_code, function)
        # Another one may have taken its place.
        given = self._get(_defaults, function), self._get(_kwdefaults, function)
        yield function.__name__, (whole, *given)
        for name, cell in zip(whole.co_freevars, function.__closure__ or (), strict=True):
            if (value := self._get(_content, cell)) is not _MISSING:
                yield from self._outside(name, value, whole)
        for code, names in _read_by(whole):
            for held, read in ((function.__globals__, names), (sys.modules, _imported(code))):
                for name in read:
                    if (value := self._name(held, name)) is not _MISSING:
                        yield from self._outside(name, value, code)

    def _outside(self, name: str, value: Any, code: CodeType) -> Iterator[tuple[str, Any]]:
        """A value that a piece of code names; of a module, class or object what the code reads of it too."""
        if isinstance(value, FunctionType) and not _is_settled(value):
            yield from self.named(value)
            return
        yield name, value
        if isinstance(value, _LOOKED_INTO) or _is_settled(value) or not self._is_new((id(value), code)):
            return
        held = vars(value) if isinstance(value, ModuleType | type) else self._all(value)
        for read in code.co_names:
            if (inner := self._name(held, read)) is not _MISSING:
                yield from self._outside(read, inner, code)

    def _fields(self, value: Any) -> Iterator[tuple[str, Any]]:
        """What an object holds, but for what it makes of the rest when it is asked."""
        if not hasattr(value, "__dict__"):  # but slots
            for name in value.__dataclass_fields__:
                yield name, self._get(operator.attrgetter(name), value)
        for name, inner in self._all(value).items():
            if not isinstance(getattr(type(value), name, None), functools.cached_property):
                yield name, inner

    def _of_class(self, cls: type) -> Iterator[tuple[str, Any]]:
        """The constants of a class and of those that it is made of, and what their methods name."""
        for base in self._get(_mro, cls)[:-1]:
            if _is_settled(base) or not self._is_new(base):
                continue
            for name, member in self._all(base).items():
                if isinstance(member, _LOOKED_INTO) and not name.startswith("__"):
                    yield name, member
                for inner in (member, *(getattr(member, a, None) for a in ("__func__", "fget", "func"))):
                    yield from self.named(inner)

    def _is_new(self, thing: Hashable) -> bool:
        """Whether this walk has not come by yet."""
        new = thing not in self._seen
        self._seen.add(thing)
        return new

    # Where things are found.

    def _get(self, get: Callable[[Any], Any], of: Any) -> Any:
        self._found.append((get, of, value := get(of)))
        return value

    def _name(self, names: Mapping[str, Any], name: str) -> Any:
        self._named.append((names, name, value := names.get(name, _MISSING)))
        return value

    def _all(self, owner: Any) -> dict[str, Any]:
        if not hasattr(owner, "__dict__"):
            return {}
        self._held.append((owner, held := dict(vars(owner))))
        return held

    def _parts(self, parts: Callable[[Any], list[Any]], of: Any) -> list[Any]:
        self._listed.append((parts, of, found := parts(of)))
        return found


def _numbers(array: Array) -> Hashable:
    return array.shape, array.dtype.str, array.tobytes()


def _items(value: Any) -> list[Any]:
    if isinstance(value, np.ndarray):
        return [*value.shape, *value.flat]
    return [*value, *value.values()] if isinstance(value, dict) else list(value)


def _copied(value: Any) -> list[Any]:
    """What a copy of an object would be made of, side by side."""
    try:
        made = value.__reduce_ex__(2)
    except Exception:  # it cannot be copied
        made = ""
    return _apart(getattr(value, "__dict__", {}) if isinstance(made, str) else made[1:])


def _apart(made: Any) -> list[Any]:
    """What lies in tuples, dicts and iterators, which are made anew each time, and how many are in each."""
    if isinstance(made, dict):
        made = (*made, *made.values())
    elif isinstance(made, Iterator):
        made = tuple(made)
    elif not isinstance(made, tuple):
        return [made]
    return [len(made), *(x for part in made for x in _apart(part))]


def _are(now: list[Any], before: list[Any]) -> bool:
    return len(now) == len(before) and all(map(operator.is_, now, before))


def _holds(owner: Any, held: dict[str, Any]) -> bool:
    """Whether an object holds the same things as before, but for what it has made of them since."""
    now = getattr(owner, "__dict__", {})
    return len(now) == len(held) and all(now.get(n, _MISSING) is value for n, value in held.items())


def _content(cell: CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return _MISSING


_code, _mro = operator.attrgetter("__code__"), operator.attrgetter("__mro__")
_defaults, _kwdefaults = operator.attrgetter("__defaults__"), operator.attrgetter("__kwdefaults__")


class _Same:
    """An object by its identity; it is kept, so that no other one takes its place in memory."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _is_settled(value: Any) -> bool:
    """Whether a module, class or function belongs to a library, which changes nothing while it runs."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    library = str(name).partition(".")[0]
    if library in _LIBRARIES or not isinstance(value, FunctionType | type):
        return library in _LIBRARIES
    # Code that Python brings along does not change; a class that was made by a call only says it were such.
    brought = library in sys.stdlib_module_names and sys.modules.get(str(name))
    return bool(brought) and getattr(brought, value.__qualname__, None) is value


def _read_by(code: CodeType) -> Iterator[tuple[CodeType, tuple[str, ...]]]:
    """A piece of code and those inside it, each with the names that it reads."""
    yield code, code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _read_by(inner)


@functools.lru_cache(maxsize=1024)
def _imported(code: CodeType) -> tuple[str, ...]:
    """The modules that a piece of code imports itself."""
    return tuple(i.argval for i in dis.get_instructions(code) if i.opname == "IMPORT_NAME")
