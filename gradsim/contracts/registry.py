"""What is installed: plugins of all families, found by name."""

from __future__ import annotations

import dataclasses
import functools
import os
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pluggy

from gradsim.contracts import hookspecs
from gradsim.contracts.cell import Cell
from gradsim.contracts.initializer import Initializer
from gradsim.contracts.layout import Layout
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.modules import module_of, plugins_in
from gradsim.contracts.optimizer import Optimizer, Schedule
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.task import Task
from gradsim.contracts.validation import holds_many, mistakes
from gradsim.errors import (
    GradsimError,
    InputError,
    PluginError,
    PluginWarning,
    UnknownNameError,
    shown,
    unknown,
)

FAMILIES: dict[str, type[Plugin]] = {
    "cells": Cell,
    "mitigations": Mitigation,
    "tasks": Task,
    "recorders": Recorder,
    "optimizers": Optimizer,
    "schedules": Schedule,
    "initializers": Initializer,
    "layouts": Layout,
}


class Catalogue:
    """All installed plugins: family -> name -> class, the distribution of each, and the problems."""

    def __init__(self, entry_points: Iterable[metadata.EntryPoint]) -> None:
        self.plugins: dict[str, dict[str, type[Plugin]]] = {family: {} for family in FAMILIES}
        self.distributions: dict[str, str] = {}
        self.problems: list[str] = []
        for point in sorted(entry_points, key=_shipped_first):
            self._load(point)

    def _load(self, point: metadata.EntryPoint) -> None:
        source = _distribution(point)
        manager = pluggy.PluginManager("gradsim")
        manager.add_hookspecs(hookspecs)
        try:
            manager.register(point.load(), name=point.name)
            manager.check_pending()
            for family in FAMILIES:
                for cls in _registered(manager, family):
                    self._add(family, cls, source)
        except Exception as error:  # whatever a plugin does wrong must not take the rest down
            self.problems.append(f"{source}: {type(error).__name__}: {error}")

    def _add(self, family: str, cls: type[Plugin], source: str) -> None:
        name = getattr(cls, "name", None)
        if not isinstance(name, str):
            self.problems.append(f'{source}: {cls!r} has no name; give it `name = "..."`')
        elif name in self.plugins[family]:
            taken = self.distributions[f"{family}/{name}"]
            self.problems.append(
                f"{source}: {cls.__name__} names itself {name!r}, but {taken} already has that name "
                f"among {family}; rename it"
            )
        else:
            self.plugins[family][name] = cls
            self.distributions[f"{family}/{name}"] = source


def _registered(manager: pluggy.PluginManager, family: str) -> list[type[Plugin]]:
    """The classes that the one plugin of this manager registers."""
    name = f"gradsim_register_{family}"
    lists = [impl.function() for impl in getattr(manager.hook, name).get_hookimpls()]
    for classes in lists:
        if not isinstance(classes, list):
            raise PluginError(f"{name} should return a list of classes, not {classes!r}")
        for cls in classes:
            if not (isinstance(cls, type) and issubclass(cls, FAMILIES[family])):
                raise PluginError(f"{name} should return classes of {FAMILIES[family].__name__}, not {cls!r}")
    return [cls for classes in lists for cls in classes]


def _distribution(point: metadata.EntryPoint) -> str:
    return f"{point.dist.name} {point.dist.version}" if point.dist else point.name


def _shipped_first(point: metadata.EntryPoint) -> tuple[bool, str, str]:
    return (not (point.dist and point.dist.name == "gradsim"), _distribution(point), point.name)


def _wanted() -> list[metadata.EntryPoint]:
    points = list(metadata.entry_points(group="gradsim"))
    chosen = os.environ.get("GRADSIM_LOAD_PLUGINS")
    if chosen is None:
        return points
    names = {n.strip() for n in chosen.split(",") if n.strip()}
    known = {p.name for p in points} | {p.dist.name for p in points if p.dist}
    for name in names - known:
        raise unknown("plugin in GRADSIM_LOAD_PLUGINS", name, known)
    return [p for p in points if p.name in names or (p.dist and p.dist.name in names)]


@functools.cache
def catalogue() -> Catalogue:
    """Load all installed plugin packages, once a process; problems are warnings.

    ``GRADSIM_LOAD_PLUGINS`` limits it to a comma-separated list of distributions or entry points.
    """
    found = Catalogue(_wanted())
    for problem in found.problems:
        warnings.warn(f"plugin not loaded: {problem}", PluginWarning, stacklevel=2)
    return found


def find(family: str, name: str) -> Any:
    """The class of this name, or that of this family in a file ``my_cell.py``, or ``my_cell.py:MyCell``."""
    found = in_file(name, FAMILIES[family])
    if found is None:
        known = catalogue().plugins[family]
        if name not in known:
            raise unknown(family.removesuffix("s"), name, known)
        return known[name]
    if len(found) != 1:
        names = [cls.__name__ for cls in found]
        several = f"{name} defines {', '.join(names)}; say which, such as {name}:{next(iter(names), '')}"
        raise InputError(several if found else f"{name} defines no {FAMILIES[family].__name__}")
    return found[0]


def in_file(name: str, base: type[Plugin] = Plugin) -> list[Any] | None:
    """The classes of plugins that a file ``my_cell.py`` or ``my_cell.py:MyCell`` stands for.

    None of a name that is that of no file. A file is imported once a process.
    """
    stem, colon, chosen = name.partition(".py:")
    if not colon and not name.endswith(".py"):
        return None
    file = f"{stem}.py" if colon else name
    found = {c.__name__: c for c in _defined_in(Path(file).absolute()) if issubclass(c, base)}
    if chosen and chosen not in found:
        raise unknown(f"class in {file}", chosen, found)
    return [found[chosen]] if chosen else list(found.values())


@functools.cache
def _defined_in(path: Path) -> tuple[Any, ...]:
    module = module_of(str(path))
    assert module is not None
    classes = tuple(plugins_in(module))
    for cls in classes:
        cls.file = f"{path.resolve()}:{cls.__name__}"
    return classes


def family_of(cls: type[Plugin]) -> str:
    """The family that a class of plugins belongs to, such as "cells"."""
    for family, base in FAMILIES.items():
        if issubclass(cls, base):
            return family
    raise PluginError(f"{cls.__name__} should be a subclass of one of the families: {', '.join(FAMILIES)}")


@functools.cache
def recorders() -> dict[str, Any]:
    """Every name that `record` takes, and the recorder it stands for; recorders never change."""
    classes: dict[str, Any] = catalogue().plugins["recorders"]
    raw = {n: cls() for n, cls in classes.items() if cls.raw}
    return raw | {f"effective_{n}": cls(effective=True) for n, cls in classes.items() if cls().has_twin}


def recorder(name: str) -> Any:
    """The recorder of this name; ``effective_`` asks for the twin of a raw one."""
    known = recorders()
    if name not in known:
        raise unknown("recorder", name, known)
    return known[name]


# Plugins from tables, as TOML and provenance have them.


def build(family: str, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The plugin of this name with these parameters."""
    return with_parameters(find(family, name), parameters or {})


def with_parameters(cls: type, parameters: Mapping[str, Any]) -> Any:
    """An object of a dataclass from its fields, plain or plugins in tables; see `Builder`."""
    return whole(lambda builder: builder.built(_title(cls), cls, parameters))


def whole(make: Callable[[Builder], Any]) -> Any:
    """What is made by a builder, or an error with all mistakes."""
    found: list[tuple[str, object]] = []
    made = make(Builder(lambda key, what: found.append((key, what))))
    if not found:
        return made
    unknown_only = all(isinstance(what, UnknownNameError) for _, what in found)
    kind = UnknownNameError if unknown_only else InputError
    raise kind("; ".join(f"{key}: {what}" for key, what in found))


@dataclass(frozen=True)
class Builder:
    """Makes plugins from tables, and what plugins hold; what cannot be made is None, and reported.

    Lists are tuples. For a parameter that is a plugin itself, a table with its name and parameters stands
    for it, or the name alone; for one that is a dataclass, a table of its fields. "none" is None, where that
    is allowed and text is not. `report` is called with the dotted key of every mistake, and what is wrong.
    """

    report: Callable[[str, object], None]

    def plugin(self, key: str, family: str, table: Any, defaults: Mapping[str, Any] | None = None) -> Any:
        """The plugin that a table names and gives the parameters of, over some defaults."""
        if not (isinstance(table, Mapping) and isinstance(table.get("name"), str)):
            example = '{ name = "..." }'
            self.report(key, f"should be a table with a name, such as {example} (got {shown(table)})")
            return None
        try:
            cls = find(family, table["name"])
        except UnknownNameError as error:
            self.report(f"{key}.name", error)
            return None
        return self.built(key, cls, {k: v for k, v in table.items() if k != "name"}, defaults)

    def built(
        self, key: str, cls: type, given: Mapping[str, Any], defaults: Mapping[str, Any] | None = None
    ) -> Any:
        """An object of a dataclass, from its fields over some defaults."""
        title, fields = _title(cls), {f.name: f for f in dataclasses.fields(cls)}
        parameters = {n: v for n, v in {**(defaults or {}), **given}.items() if n in fields}
        wrong = {f"{key}.{n}": unknown(f"parameter of {title}", n, fields) for n in given if n not in fields}
        self._report_all(wrong)
        if lacking := [n for n, f in fields.items() if n not in parameters and _is_required(f)]:
            self.report(key, f"{title} needs {', '.join(lacking)}")
        hints = get_type_hints(cls)
        parameters |= {n: None for n, v in parameters.items() if v == "none" and _may_be_none(hints[n])}
        values = {n: self.value(f"{key}.{n}", v, hints[n]) for n, v in parameters.items()}
        fitting = {n: v for n, v in values.items() if v is not None or parameters[n] is None}
        unfit = {f"{key}.{n}": what for n, what in mistakes(cls, fitting).items()}
        self._report_all(unfit)
        if wrong or lacking or unfit or len(fitting) < len(values):
            return None
        try:
            return cls(**values)
        except GradsimError as error:
            own = f"{key.rpartition('.')[2]}: "  # where a class calls itself as the key does
            self.report(key, str(error).removeprefix(own) if str(error).startswith(own) else error)
            return None

    def recorder(self, key: str, name: Any) -> Any:
        """The recorder of this name."""
        known = recorders()
        if isinstance(name, str) and name in known:
            return known[name]
        return self.report(key, unknown("recorder", name, known))

    def value(self, key: str, given: Any, hint: Any) -> Any:
        """What a value stands for where a parameter of this type is wanted."""
        if isinstance(given, list | tuple):
            return self._items(key, given, hint)
        return given if holds_many(hint) else self._one(key, given, class_in(hint))

    def _items(self, key: str, given: Sequence[Any], hint: Any) -> tuple[Any, ...] | None:
        made = [
            self._items(f"{key}.{i}", item, hint)
            if isinstance(item, list | tuple)
            else self._one(f"{key}.{i}", item, class_in(hint))
            for i, item in enumerate(given)
        ]
        failed = any(new is None and old is not None for new, old in zip(made, given, strict=True))
        return None if failed else tuple(made)

    def _one(self, key: str, given: Any, cls: Any) -> Any:
        if cls is None or not isinstance(given, str | Mapping):
            return given
        if issubclass(cls, Recorder) and isinstance(given, str):
            return self.recorder(key, given)
        if not issubclass(cls, tuple(FAMILIES.values())):  # which a table need not name
            return self.built(key, cls, given) if isinstance(given, Mapping) else given
        return self.plugin(key, family_of(cls), {"name": given} if isinstance(given, str) else given)

    def _report_all(self, found: Mapping[str, object]) -> None:
        for key, what in found.items():
            self.report(key, what)


def _title(cls: type) -> str:
    return cls.name if issubclass(cls, Plugin) else cls.__name__.lower()


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def _may_be_none(hint: Any) -> bool:
    """Whether a parameter may be None and no text, so that "none" says so, for which TOML has no word."""
    return type(None) in get_args(hint) and str not in get_args(hint)


def class_in(hint: Any) -> type | None:
    """The class of plugins, or the dataclass, in an annotation such as `Schedule | None`."""
    if isinstance(hint, type) and (issubclass(hint, Plugin) or dataclasses.is_dataclass(hint)):
        return hint
    return next(filter(None, map(class_in, get_args(hint))), None)
