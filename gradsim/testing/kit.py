"""How checks are declared, which ones a plugin gets, and how they are made."""

from __future__ import annotations

import dataclasses
import functools
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar
from unittest import SkipTest

import numpy as np

from gradsim.contracts.plugin import Plugin, place
from gradsim.errors import PluginError, cure, shown

_UNLIKELY = 1826435907

_Function = TypeVar("_Function", bound=Callable[[Any], None])


@dataclass(frozen=True)
class Check:
    """One property of a plugin. `after` names the checks without which it would mean nothing."""

    name: str
    function: Callable[[Any], None]
    after: tuple[str, ...]
    applies: Callable[[Any], bool]


class Checks(list[Check]):
    """The checks of one family of plugins, in order; used as a decorator."""

    def __call__(
        self, *after: str, applies: Callable[[Any], bool] = lambda bench: True
    ) -> Callable[[_Function], _Function]:
        """Add a function as a check of this name."""

        def add(function: _Function) -> _Function:
            self.append(Check(function.__name__, function, after, applies))
            return function

        return add


class Bench:
    """A plugin set up to be examined: what its checks need, made once, from fixed seeds."""

    family: ClassVar[str]

    def __init__(self, plugin: Plugin) -> None:
        self.plugin = plugin

    def rng(self, purpose: str) -> np.random.Generator:
        """Random numbers of its own for each purpose, always the same."""
        return np.random.default_rng([1997, zlib.crc32(purpose.encode())])

    def expect(self, condition: Any, message: str) -> None:
        """Fail with a sentence that begins with the plugin."""
        __tracebackhide__ = True
        if not condition:
            self.fail(message)

    def refuse(self, mistakes: Iterator[str]) -> None:
        """Fail with the first of some mistakes, if there is one."""
        __tracebackhide__ = True
        for mistake in mistakes:
            self.fail(mistake)

    def fail(self, message: str) -> None:
        """Fail with a sentence that begins with the plugin."""
        __tracebackhide__ = True
        raise AssertionError(f"{label(self.plugin)}: {message}")


class Suite:
    """The checks of one plugin. What one of them found is remembered for those that rest on it."""

    def __init__(self, bench: Bench, checks: Checks) -> None:
        self.plugin, self.bench, self.all = bench.plugin, bench, checks
        self.found: dict[str, Exception | None] = {}

    @functools.cached_property
    def checks(self) -> dict[str, Check]:
        """Those that apply, by name."""
        return {c.name: c for c in self.all if self._applies(c)}

    def calls(self) -> list[tuple[str, Callable[[], None]]]:
        """Their names, and functions without arguments that make them."""
        return [(name, functools.partial(self.make, name)) for name in self.checks]

    def make(self, name: str) -> None:
        """Make one check.

        Raises
        ------
        AssertionError
            The plugin does not have this property.
        unittest.SkipTest
            A check that this one rests on fails.
        """
        __tracebackhide__ = True
        self.found[name] = None
        try:
            self._make(self.checks[name])
        except (AssertionError, SkipTest) as error:
            self.found[name] = error
            raise

    def _make(self, check: Check) -> None:
        __tracebackhide__ = True
        for ground in check.after:
            if self._stands(ground):
                continue
            raise SkipTest(f"{label(self.plugin)}: {check.name} rests on {ground}, which fails")
        try:
            with np.errstate(all="ignore"):
                check.function(self.bench)
        except (AssertionError, SkipTest):
            raise
        except PluginError as error:  # as a run says it
            raise AssertionError(_beginning_with(label(self.plugin), str(error))) from error
        except Exception as error:
            raise AssertionError(
                f"{label(self.plugin)}: {check.name} ended in {type(error).__name__}: {error}{cure(error)}"
                f"{place(error.__traceback__)}"
            ) from error

    def _stands(self, name: str) -> bool:
        if name not in self.checks:
            return True
        if name not in self.found:
            try:
                self.make(name)
            except (AssertionError, SkipTest):
                return False
        return self.found[name] is None

    def _applies(self, check: Check) -> bool:
        try:
            return check.applies(self.bench)
        except Exception:  # whatever is wrong, the check that looks at it will say
            return False


def _beginning_with(start: str, message: str) -> str:
    return message if message.startswith(start) else f"{start}: {message}"


def label(plugin: object) -> str:
    """The plugin as its author would write it."""
    return shown(plugin)


@contextmanager
def no_global_randomness(bench: Bench, who: str) -> Iterator[None]:
    """Fail when the block draws from, or seeds, the global random state of numpy; restore it."""
    __tracebackhide__ = True
    before = _GlobalState()
    np.random.seed(_UNLIKELY)  # noqa: NPY002 - a state that nobody else would leave behind
    set_here = _GlobalState()
    try:
        yield
        bench.expect(
            same(vars(set_here), vars(_GlobalState())),
            f"{who} uses the global random state of numpy (np.random.*); draw from the rng it is given",
        )
    finally:
        before.restore()


class _GlobalState:
    """The global random state of numpy."""

    def __init__(self) -> None:
        self.state: Any = np.random.get_state(legacy=False)  # noqa: NPY002 - to see that nobody uses it

    def restore(self) -> None:
        """Put it back."""
        np.random.set_state(self.state)  # noqa: NPY002


def same(one: Any, other: Any) -> bool:
    """Equal to the last bit: arrays, numbers, and dicts and sequences of them."""
    if isinstance(one, dict):
        return (
            isinstance(other, dict)
            and one.keys() == other.keys()
            and all(same(v, other[k]) for k, v in one.items())
        )
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    a, b = np.asarray(one), np.asarray(other)
    return a.shape == b.shape and a.dtype == b.dtype and np.array_equal(a, b, equal_nan=a.dtype.kind == "f")


def copied(value: Any) -> Any:
    """A deep copy in which every array is writeable."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type | Plugin):
        return dataclasses.replace(
            value, **{f.name: copied(getattr(value, f.name)) for f in dataclasses.fields(value)}
        )
    if isinstance(value, dict):
        return {k: copied(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(copied(v) for v in value)
    return np.array(value) if isinstance(value, np.ndarray) else value


def names(found: Iterable[str]) -> str:
    """Names in a message."""
    return ", ".join(sorted(found)) or "none"
