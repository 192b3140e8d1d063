"""What all plugins share: a name and validated parameters."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import hashlib
import inspect
import math
import numbers
import os
import reprlib
import traceback
from abc import ABCMeta
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import FunctionType, MethodType, TracebackType
from typing import Any, ClassVar
from weakref import WeakKeyDictionary, WeakValueDictionary

import numpy as np

from gradsim.contracts.moment import Moment
from gradsim.contracts.validation import bound, settle
from gradsim.errors import GradsimError, PluginError, TracingError, cure, shown, unknown
from gradsim.types import Array

_CORE = f"{Path(__file__).parents[1]}{os.sep}"


class PluginType(ABCMeta):
    """Makes the objects of plugin classes, and says in words what is missing or unknown."""

    def __call__(cls, *args: Any, **kwargs: Any) -> Any:
        """Make an object, as any class does."""
        try:
            return super().__call__(*args, **kwargs)
        except TypeError:
            if lacking := sorted(cls.__abstractmethods__):
                raise PluginError(f"{cls.__name__} lacks {', '.join(lacking)}; define them") from None
            bound(cls.__name__, cls.__signature__.parameters, args, kwargs)
            raise

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of its parameters, for help and editors."""
        make: Any = cls
        signature = inspect.signature(make.__init__)
        return signature.replace(parameters=list(signature.parameters.values())[1:])


class Plugin(metaclass=PluginType):
    """A frozen dataclass (``eq=False``) whose fields are its parameters.

    Every field is validated against its annotation when the object is made, and all mistakes are
    reported at once. ``name`` is how the plugin is found: lower case, words joined by ``_``.

    Raises
    ------
    InputError, UnknownNameError
        One or more parameters are missing, unknown, of the wrong type or out of range.
    PluginError
        The class is no dataclass, or lacks a method of its contract.
    """

    name: ClassVar[str]

    file: ClassVar[str] = ""
    """Where a class was found that is not installed, as ``file.py:Class``."""

    def __init_subclass__(cls, **options: Any) -> None:
        """Keep the repr, which a dataclass would replace."""
        super().__init_subclass__(**options)
        if cls.__repr__ is Plugin.__repr__:
            cls.__repr__ = Plugin.__repr__  # type: ignore[method-assign]

    @reprlib.recursive_repr()
    def __repr__(self) -> str:
        """What makes it again; parameters that can be given by name only, where they are not the default."""
        given = [(f, getattr(self, f.name)) for f in dataclasses.fields(self) if f.repr]  # type: ignore[arg-type]
        said = [f"{f.name}={x!r}" for f, x in given if not (f.kw_only and repr(x) == repr(f.default))]
        return f"{type(self).__qualname__}({', '.join(said)})"

    def __init__(self, *given: Any, **named: Any) -> None:
        decorator = "@dataclass(frozen=True, eq=False)"
        raise PluginError(f"{type(self).__name__} is no dataclass; decorate the class with {decorator}")

    def __post_init__(self) -> None:
        cls, name = type(self), getattr(type(self), "name", None)
        if not (isinstance(name, str) and name):
            raise PluginError(
                f'{cls.__name__} has the name {name!r}; give the class one, such as name = "mine"'
            )
        with annotated(cls):
            settle(self, cls.__name__)

    @property
    def inside(self) -> list[Plugin]:
        """The plugins among its parameters, those in tuples too."""
        found: list[Plugin] = []
        for f in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            found += [v for v in (value if isinstance(value, tuple) else (value,)) if isinstance(v, Plugin)]
        return found

    @property
    def parameters(self) -> dict[str, Any]:
        """The parameters as plain values, for provenance; `registry.build` takes them."""
        return {f.name: described(getattr(self, f.name)) for f in dataclasses.fields(self)}  # type: ignore[arg-type]


@contextlib.contextmanager
def annotated(cls: type) -> Iterator[None]:
    """Let an annotation that cannot be read be told as a mistake of the class."""
    try:
        yield
    except (NameError, TypeError) as error:
        raise PluginError(f"{cls.__name__}: an annotation of its fields is no type: {error}") from error


def refuse_by_value(plugin: Plugin) -> None:
    """Raise unless it is compared as the object that it is: results are kept for each by itself."""
    if type(plugin).__eq__ is not object.__eq__:
        raise PluginError(
            f"{type(plugin).__name__} compares by value; decorate the class with "
            "@dataclass(frozen=True, eq=False)"
        )


class Passed:
    """Plugins that have passed a check in this process: others of their class that look the same need not."""

    def __init__(self) -> None:
        self._looks: WeakKeyDictionary[type, set[str]] = WeakKeyDictionary()
        # The objects themselves: to show one that holds arrays takes as long as a small run.
        self._themselves: WeakValueDictionary[int, object] = WeakValueDictionary()

    def __contains__(self, plugin: object) -> bool:
        if self._themselves.get(id(plugin)) is plugin:
            return True
        looks = self._looks.get(type(plugin))
        if looks is None or repr(plugin) not in looks:
            return False
        self._remember(plugin)
        return True

    def add(self, plugin: object) -> None:
        """Note that one has passed; one that cannot be shown is checked every time."""
        with contextlib.suppress(Exception):
            look = repr(plugin)
            self._looks.setdefault(type(plugin), set()).add(look)
            self._remember(plugin)

    def _remember(self, plugin: object) -> None:
        with contextlib.suppress(TypeError):  # of a class with slots and none for this
            self._themselves[id(plugin)] = plugin


class calling:
    """A context in which a method of a plugin is called: whatever it raises becomes a PluginError.

    Parameters
    ----------
    plugin
        Whose method it is; the message begins with it.
    method
        Its name, such as "step".
    known
        The names that it may look up, to offer the nearest one where it asks for another.

    Raises
    ------
    PluginError
        Names plugin, method, what was raised and the line of the plugin. Errors of gradsim pass as they
        are, as do MemoryError and what is no error, such as Ctrl-C.
    """

    def __init__(self, plugin: object, method: str, known: Iterable[object] = ()) -> None:
        self.plugin, self.method, self.known = plugin, method, known

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, TracingError):
            raise PluginError(f"{shown(self.plugin)}: {error}") from error
        if not isinstance(error, Exception) or isinstance(error, GradsimError | MemoryError):
            return
        brackets = "" if _is_property(self.plugin, self.method) else "()"
        raise PluginError(
            f"{shown(self.plugin)}: {self.method}{brackets} raised {self._said(error)}{place(trace)}"
        ) from error

    def _said(self, error: Exception) -> str:
        names = [name for name in self.known if isinstance(name, str)]
        if isinstance(error, KeyError) and names and error.args and error.args[0] not in names:
            return f"KeyError: {unknown('name', error.args[0], names)}"
        said = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return said + cure(error)


def _is_property(plugin: object, name: str) -> bool:
    return isinstance(inspect.getattr_static(type(plugin), name, None), property | functools.cached_property)


def place(trace: TracebackType | None) -> str:
    """Where the plugin was: the last line of it on the way to the error, if there is one."""
    frames = [f for f in traceback.extract_tb(trace)[1:] if not _is_of_a_library(f.filename)]
    return f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""


def _is_of_a_library(filename: str) -> bool:
    return filename.startswith((_CORE, "<")) or "site-packages" in filename


def call_with(function: Callable[..., Any], **offered: Any) -> Any:
    """Call a function with those of the offered arguments that it names, as a hook is called.

    In a pass that validates, one that does not name the `moment` gets no random numbers.
    """
    named = _named(function, offered)
    moment = offered.get("moment")
    if moment is not None and moment.validating and "moment" not in named and "rng" in named:
        named["rng"] = _NoRandomness(function)
    return function(**named)


def _named(function: Callable[..., Any], offered: dict[str, Any]) -> dict[str, Any]:
    parameters = parameters_of(function)
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        return offered
    for name, p in parameters.items():
        if name not in offered and p.default is p.empty and p.kind is not p.VAR_POSITIONAL:
            raise TypeError(str(unknown("argument", name, offered)))
    return {name: value for name, value in offered.items() if name in parameters}


def parameters_of(function: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    """What a function, or a method of an object, takes."""
    written = function.__func__ if isinstance(function, MethodType) else function
    if not isinstance(written, FunctionType):
        return inspect.signature(function).parameters
    return _parameters(written, function is not written)


@functools.lru_cache(maxsize=1024)
def _parameters(function: FunctionType, bound: bool) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(MethodType(function, ...) if bound else function).parameters


class _NoRandomness:
    """Stands in for the random numbers of a draw that has not thought of validation."""

    def __init__(self, draw: Callable[..., Any]) -> None:
        self._draw = draw

    def __getattr__(self, name: str) -> Any:
        plugin, method = getattr(self._draw, "__self__", self._draw), self._draw.__name__
        raise PluginError(
            f"{shown(plugin)}: {method}() draws at random for a validation too, where dropout and noise are "
            f"off; let {method}() name `moment` and give what holds where moment.validating, such as the "
            "mean (noise that belongs to the model: name `moment` and draw it all the same)"
        )


def drawn(
    draw: Callable[..., Any], rng: np.random.Generator, inputs: Array, moment: Moment, **more: Any
) -> dict[str, Array]:
    """What a `draw` makes for these inputs (steps, batch, input), given what it names."""
    steps, batch = inputs.shape[:2]
    offered = {"rng": rng, "steps": steps, "batch": batch, "inputs": inputs, "moment": moment}
    plugin, method = getattr(draw, "__self__", draw), getattr(draw, "__name__", "draw")
    with calling(plugin, method):
        found: dict[str, Array] = call_with(draw, **offered, **more)
        if not isinstance(found, Mapping):
            raise PluginError(
                f"{shown(plugin)}: {method}() returns {shown(found)}; it should be a dict of arrays"
            )
        for name, value in found.items():
            held = np.asarray(value).dtype
            if not isinstance(name, str) or held.kind not in "biuf":
                raise PluginError(f"{shown(plugin)}: {method}() gives {name!r} of dtype {held}; draw numbers")
    return found


def refuse_other_draws(draw: Callable[..., Any], inputs: Array, moment: Moment, **more: Any) -> None:
    """Raise unless a `draw` makes the same again from the same rng."""
    rngs = (np.random.default_rng(0) for _ in range(2))
    one, again = ({n: np.array(x) for n, x in drawn(draw, r, inputs, moment, **more).items()} for r in rngs)
    same = all(n in again and np.array_equal(x, again[n], equal_nan=True) for n, x in one.items())
    if one.keys() != again.keys() or not same:
        raise PluginError(
            f"{shown(getattr(draw, '__self__', draw))}: {draw.__name__}() draws other numbers from the same "
            "rng; take all randomness from the rng that it is given"
        )


def described(value: Any) -> Any:
    """A value as JSON has it; plugins as tables."""
    match value:
        case None | bool() | int() | float() | str():
            return value
        case Plugin():
            return {"name": value.file or value.name, **value.parameters}
        case np.ndarray():
            return f"array of shape {value.shape}, dtype {_shown_dtype(value.dtype)}, sha256 {_digest(value)}"
        case list() | tuple():
            return [described(item) for item in value]
        case dict():
            return {str(key): described(item) for key, item in value.items()}
    return repr(value)


_shown_dtype = functools.cache(str)
"""A dtype in words, which NumPy makes anew each time."""


def _digest(array: Array) -> str:
    """The first digits of a hash of what is in an array."""
    found = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    if array.dtype.hasobject:
        found.update(repr(array.tolist()).encode())
    else:
        found.update(np.asarray(array, order="C").reshape(-1).view(np.uint8).data)
    return found.hexdigest()[:16]


def number_of(plugin: Plugin, method: str, problem: Any) -> float:
    """What a plugin says of a problem: a number, 0 or more.

    Raises
    ------
    PluginError
        It says something else.
    """
    with calling(plugin, method):
        found = getattr(plugin, method)(problem)
    if not (isinstance(found, numbers.Real) and 0 <= float(found) < math.inf):
        raise PluginError(f"{plugin!r}: {method}() should be a number, 0 or more, not {shown(found)}")
    return float(found)
