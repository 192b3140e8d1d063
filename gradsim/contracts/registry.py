"""What is installed: plugins of all families, found by name."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable, Mapping
from importlib import metadata
from typing import Any

import pluggy

from gradsim.contracts import hookspecs
from gradsim.contracts.cell import Cell
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.optimizer import Optimizer, Schedule
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.recorder import Recorder
from gradsim.contracts.task import Task
from gradsim.errors import InputError, PluginError, PluginWarning, unknown

FAMILIES: dict[str, type[Plugin]] = {
    "cells": Cell,
    "mitigations": Mitigation,
    "tasks": Task,
    "recorders": Recorder,
    "optimizers": Optimizer,
    "schedules": Schedule,
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
    """The class of this name."""
    known = catalogue().plugins[family]
    if name not in known:
        raise unknown(family.removesuffix("s"), name, known)
    return known[name]


def build(family: str, name: str, parameters: Mapping[str, Any] | None = None) -> Any:
    """The plugin of this name with these parameters."""
    return find(family, name).from_parameters(parameters or {})


def rebuild(family: str, table: Mapping[str, Any]) -> Any:
    """The plugin that a table with its name and parameters describes, as provenance and TOML have them."""
    if not isinstance(name := table.get("name"), str):
        raise InputError(f'should be a table with a name, such as {{ name = "..." }} (got {dict(table)!r})')
    return build(family, name, {key: value for key, value in table.items() if key != "name"})


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
    return raw | {f"effective_{n}": cls(effective=True) for n, cls in classes.items() if cls.twin}


def recorder(name: str) -> Any:
    """The recorder of this name; ``effective_`` asks for the twin of a raw one."""
    known = recorders()
    if name not in known:
        raise unknown("recorder", name, known)
    return known[name]
