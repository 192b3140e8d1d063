"""Plugin managers: installed plugins are found by name, a run holds only what was chosen for it."""

from __future__ import annotations

import functools
import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from importlib import metadata
from typing import Any

import numpy as np
import pluggy

from gradsim import hookspecs
from gradsim.cell import Cell
from gradsim.errors import InputError, PluginError, PluginWarning, unknown
from gradsim.mitigation import BackwardJacobian, Mitigation, Penalty
from gradsim.optimizer import Optimizer, Schedule
from gradsim.plugin import Plugin
from gradsim.recorder import Recorder
from gradsim.task import Task

FAMILIES: dict[str, type[Plugin]] = {
    "cells": Cell,
    "mitigations": Mitigation,
    "tasks": Task,
    "recorders": Recorder,
    "optimizers": Optimizer,
    "schedules": Schedule,
}
hookimpl = pluggy.HookimplMarker("gradsim")


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


# One run.


class Core:
    """The innermost implementation of every run hook: nothing is changed."""

    @hookimpl
    def gradsim_prepare_cell(self, cell):  # type: ignore[no-untyped-def]
        return cell

    @hookimpl
    def gradsim_init_params(self, cell, rng):  # type: ignore[no-untyped-def]
        return cell.init_params(rng)

    @hookimpl
    def gradsim_backward_jacobian(self, steps, jacobian):  # type: ignore[no-untyped-def]
        return BackwardJacobian(jacobian, np.zeros(len(steps), dtype=np.int64))

    @hookimpl
    def gradsim_backward_step(self, adjoint):  # type: ignore[no-untyped-def]
        return adjoint

    @hookimpl
    def gradsim_penalty(self):  # type: ignore[no-untyped-def]
        return Penalty(0.0, {})

    @hookimpl
    def gradsim_backward(self, gradient):  # type: ignore[no-untyped-def]
        return gradient


RUN_HOOKS = tuple(name for name in vars(Core) if name.startswith("gradsim_"))


def _core() -> pluggy.PluginManager:
    manager = pluggy.PluginManager("gradsim")
    manager.add_hookspecs(hookspecs)
    manager.register(Core(), name="core")
    return manager


_core_alone = functools.cache(_core)
"""Reading the hook specifications takes longer than a small run does otherwise."""


class RunHooks:
    """The hooks of one run: the chosen mitigations around the core, applied in the order written.

    Raises
    ------
    PluginError
        A mitigation is not one, misspells a hook, or implements a run hook that is not a wrapper.
    """

    def __init__(self, mitigations: Sequence[Mitigation]) -> None:
        self.manager = _core() if mitigations else _core_alone()
        for i, mitigation in enumerate(mitigations):
            self._add(i, mitigation)

    def _add(self, i: int, mitigation: Mitigation) -> None:
        if not isinstance(mitigation, Mitigation):
            what = "the class; call it" if isinstance(mitigation, type) else f"a {type(mitigation).__name__}"
            raise PluginError(f"mitigations[{i}] should be a Mitigation object, got {mitigation!r}: {what}")
        if mitigation in self.manager.get_plugins():
            raise PluginError(
                f"mitigations[{i}] is the same object as an earlier one; make a second {mitigation!r}"
            )
        try:
            self.manager.register(mitigation, name=f"{i}:{mitigation.name}")
            self.manager.check_pending()
        except pluggy.PluginValidationError as error:
            raise PluginError(f"{mitigation!r}: {error}; the hooks are in gradsim.hookspecs") from None
        mine = [
            (name, impl)
            for name in RUN_HOOKS
            for impl in getattr(self.manager.hook, name).get_hookimpls()
            if impl.plugin is mitigation
        ]
        for name, impl in mine:
            if not impl.wrapper:
                raise PluginError(
                    f"{mitigation!r}: {name} should be a wrapper; write @hookimpl(wrapper=True) and yield"
                )
        self.manager.register(_guard(mitigation, [name for name, _ in mine]), name=f"{i}:guard")

    def uses(self, hook: str, argument: str | None = None) -> bool:
        """Whether a mitigation implements this hook, and asks for this argument of it."""
        asked = self._asked[hook]
        return bool(asked) if argument is None else any(argument in names for names in asked)

    @functools.cached_property
    def _asked(self) -> dict[str, list[tuple[str, ...]]]:
        """The arguments that each implementation of each run hook by a mitigation asks for."""
        return {
            name: [
                i.argnames
                for i in getattr(self.manager.hook, name).get_hookimpls()
                if i.wrapper and isinstance(i.plugin, Mitigation)
            ]
            for name in RUN_HOOKS
        }

    @property
    def used(self) -> set[str]:
        """The hooks that some mitigation implements."""
        return {name for name in RUN_HOOKS if self.uses(name)}

    def __call__(self, hook: str, **arguments: Any) -> Any:
        """Call a run hook."""
        return getattr(self.manager.hook, hook)(**arguments)


def _guard(mitigation: Mitigation, hooks: Iterable[str]) -> object:
    """A plugin just outside a mitigation that refuses what the mitigation forgot to return."""

    def watch(name: str) -> Any:
        def guard(self: object) -> Any:
            result = yield
            if result is None:
                raise PluginError(
                    f"{mitigation!r}: {name} returned None; end it with `return` and the changed result"
                )
            return result

        return hookimpl(wrapper=True)(guard)

    return type("Guard", (), {name: watch(name) for name in hooks})()
