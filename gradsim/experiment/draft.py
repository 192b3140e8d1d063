"""The objects of one run, built from the tables of an experiment while mistakes are gathered."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from gradsim.contracts import registry
from gradsim.contracts.problem import Pairs
from gradsim.experiment.keys import RunKeys, names

ONE_OF = ("updates", "epochs")
"""A training has one of these: where the other is given in its place, it goes."""


def changed(tables: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The tables with some of them replaced.

    A plugin without a name is the one that was there with these parameters changed.
    """
    kept = {k: v for k, v in tables.items() if not (k in ONE_OF and own.keys() & set(ONE_OF))}
    return {**kept, **{k: _merged(tables.get(k), v) for k, v in own.items()}}


def _merged(main: Any, own: Any) -> Any:
    partial = isinstance(own, Mapping) and isinstance(main, Mapping) and "name" not in own
    return {**main, **own} if partial and "name" in main else own


def drafts(tables: Mapping[str, Any], keys: type[RunKeys], mistakes: list[str]) -> Iterator[Draft]:
    """The main run, and those that are compared with it."""
    yield Draft(tables, tables, "", mistakes)
    shared = {k: v for k, v in tables.items() if k in names(keys)}
    for i, own in _items(tables.get("compare")):
        if isinstance(own, Mapping):
            yield Draft(changed(shared, own), own, f"compare.{i}.", mistakes)


def _items(value: Any) -> Iterable[tuple[int, Any]]:
    return enumerate(value) if isinstance(value, list) else []


@dataclass
class Draft:
    """One run while its parts are built; a part that cannot be built is None, and reported.

    Wrong types of keys are left out here: `experiment_keys` reports them. Mistakes in what a compared
    run inherits belong to the main one.
    """

    tables: Mapping[str, Any]
    own: Mapping[str, Any]
    prefix: str
    mistakes: list[str]

    def values(self, keys: type[RunKeys], *wanted: str) -> dict[str, Any]:
        """Numbers and switches, or their defaults."""
        defaults = names(keys)
        return {k: self.tables.get(k, defaults[k]) for k in wanted}

    # Plugins.

    def world(self) -> dict[str, Any]:
        """Task, cell and mitigations."""
        task = self.plugin("task", "tasks", self.tables.get("task"))
        tables = _items(self.tables.get("mitigations"))
        built = [self.plugin(f"mitigations.{i}", "mitigations", table) for i, table in tables]
        return {"task": task, "mitigations": [m for m in built if m is not None], "cell": self._cell(task)}

    def _cell(self, task: Any) -> Any:
        size = {} if task is None else {"input_size": task.input_size}
        cell = self.plugin("cell", "cells", self.tables.get("cell"), size)
        if cell is not None and task is not None and cell.input_size != task.input_size:
            fix = f"should be {task.input_size}, as the task {task.name} has it; leave it out"
            self.report("cell.input_size", f"{fix} (got {cell.input_size})")
        return cell

    def plugin(self, key: str, family: str, table: Any, defaults: Mapping[str, Any] | None = None) -> Any:
        """The plugin that a table names; a table without a name has been reported with the wrong types."""
        return self.builder.plugin(key, family, table, defaults) if registry.is_named(table) else None

    @property
    def builder(self) -> registry.Builder:
        """Makes what this run takes, and reports mistakes in it."""
        return registry.Builder(self.report)

    # What is recorded.

    def recorders(self, given: Any) -> list[str] | None:
        """The names of recorders; None if they are left out or wrong."""
        if given is None:
            return None
        if not isinstance(given, list) or not given:
            self.report("record", f"should be a list of recorders, or be left out (got {given!r})")
            return None
        made = [self.builder.recorder(f"record.{i}", name) for i, name in enumerate(given)]
        return given if all(made) else None

    def pairs(self, given: Any) -> Pairs | None:
        """Which products are recorded; None if that is left out or wrong."""
        if isinstance(given, Mapping):
            return cast(Pairs | None, self.builder.built("pairs", Pairs, given))
        if given is not None:
            self.report("pairs", f"should be a table (got {given!r})")
        return None

    # Mistakes.

    def report(self, key: str, what: object) -> None:
        """Note a mistake, unless it is one of the main run."""
        if self._is_own(key):
            self.mistakes.append(f"{self.prefix}{key}: {what}")

    def _is_own(self, key: str) -> bool:
        if self.own is self.tables:
            return True
        part, _, parameter = key.partition(".")
        own = self.own.get(part)
        if parameter and isinstance(own, Mapping) and "name" not in own:
            return parameter.split(".")[0] in own
        return part in self.own
