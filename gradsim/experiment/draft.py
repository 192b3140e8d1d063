"""The objects of one run, built from the tables of an experiment while mistakes are gathered."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_type_hints

from gradsim.contracts import registry
from gradsim.contracts.cell import Cell
from gradsim.contracts.plugin import described
from gradsim.errors import GradsimError, shown
from gradsim.experiment.keys import written
from gradsim.loading.models import load_weights
from gradsim.run.parameters import Parameter, arguments, listed

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


def drafts(tables: Mapping[str, Any], cls: type, mistakes: list[str]) -> Iterator[Draft]:
    """The main run, and those that are compared with it."""
    yield Draft(tables, tables, "", mistakes)
    shared = {k: v for k, v in tables.items() if k in written(cls)}
    compared = tables.get("compare")
    for i, own in enumerate(compared if isinstance(compared, list) else []):
        if isinstance(own, Mapping):
            yield Draft(changed(shared, own), own, f"compare.{i}.", mistakes)


@dataclass
class Draft:
    """One run while its arguments are built; one that cannot be built is None, and reported.

    Wrong types of keys are left out here: `mistakes_in` reports them. Mistakes in what a compared run
    inherits belong to the main one.
    """

    tables: Mapping[str, Any]
    own: Mapping[str, Any]
    prefix: str
    mistakes: list[str]

    @property
    def label(self) -> str | None:
        """What tells it from the other runs, if anything does."""
        label = self.own.get("label")
        return label if isinstance(label, str) else None

    def arguments(self, cls: type) -> dict[str, Any]:
        """The arguments that the tables have; the cell takes its input size from the task."""
        builder = registry.Builder(self.report)
        apart = ("cell", "cells", *(("mitigations",) if "cells" in written(cls) else ()))
        made = arguments(cls, {k: v for k, v in self.tables.items() if k not in apart}, builder)
        found = {name: _of_kind(listed(cls)[name], value) for name, value in made.items()}
        task: Any = found.get("task")
        table = self.tables.get("cell")
        if isinstance(table, Mapping):
            found |= self._cell(builder, table, task)
            self._check_fed("cell", found["cell"], task)
        tables = self.tables.get("cells")
        if isinstance(tables, list):
            found["cells"] = self._cells(builder, tables, task)
        choices = self.tables.get("mitigations")
        if "mitigations" in apart and isinstance(choices, list):
            found["mitigations"] = self._choices(builder, choices)
        return found

    def _choices(self, builder: registry.Builder, tables: list[Any]) -> dict[str, Any]:
        """Mitigations that are compared, by label, which is the name where there is no other."""
        found: dict[str, Any] = {}
        for i, table in enumerate(tables):
            if not isinstance(table, Mapping):
                continue
            key, own = f"mitigations.{i}", {k: v for k, v in table.items() if k != "label"}
            label, several = table.get("label", table.get("name")), own.get("in_order")
            if not isinstance(label, str):
                self.report(f"{key}.label", f"should be a text (got {shown(label)})")
            elif label in found:
                self.report(key, f"two choices are called {label!r}; give them labels")
            elif several is None:
                found[label] = builder.plugin(key, "mitigations", own)
            elif not isinstance(several, list) or own.keys() != {"in_order"}:
                self.report(
                    f"{key}.in_order", "should be a list of mitigations, with nothing but a label beside"
                )
            else:
                made = [
                    builder.plugin(f"{key}.in_order.{j}", "mitigations", m) for j, m in enumerate(several)
                ]
                found[label] = made
        return found

    def _cells(self, builder: registry.Builder, tables: list[Any], task: Any) -> dict[str, Any]:
        """Cells that are compared, by label, which is the name where there is no other."""
        found: dict[str, Any] = {}
        for i, table in enumerate(tables):
            if not isinstance(table, Mapping):
                continue
            key, own = f"cells.{i}", {k: v for k, v in table.items() if k != "label"}
            label = table.get("label", table.get("name"))
            if not isinstance(label, str):
                self.report(f"{key}.label", f"should be a text (got {shown(label)})")
                continue
            if label in found:
                self.report(key, f"two cells are called {label!r}; give them labels")
            found[label] = builder.plugin(key, "cells", own if task is None else _fed(own, task.input_size))
            self._check_fed(key, found[label], task)
        return found

    def _check_fed(self, key: str, cell: Any, task: Any) -> None:
        if None not in (cell, task) and cell.input_size != task.input_size:
            fix = f"should be {task.input_size}, as the task {task.name} has it; leave it out"
            self.report(f"{key}.input_size", f"{fix} (got {cell.input_size})")

    def _cell(self, builder: registry.Builder, table: Mapping[str, Any], task: Any) -> dict[str, Any]:
        """The cell; and its parameters, where the name is that of a layout, and the path that of weights."""
        if "path" not in table or not _is_layout(table.get("name")):
            fitting = table if task is None else _fed(table, task.input_size)
            return {"cell": builder.plugin("cell", "cells", fitting)}
        prefix, path = table.get("prefix", ""), table["path"]
        rest = {k: v for k, v in table.items() if k not in ("path", "prefix")}
        layout = builder.plugin("cell", "layouts", rest)
        if layout is not None:
            try:
                model = load_weights(path, layout, prefix=prefix)
            except GradsimError as error:
                self.report("cell.path", error)
                return {"cell": None}
            size = model.cell.input_size
            if task is None or size == task.input_size:
                return model._asdict()
            there = f"the task {task.name} has {task.input_size}"
            self.report("cell.path", f"the model takes inputs of size {size}, and {there}; take another task")
        return {"cell": None}

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


def _is_layout(name: Any) -> bool:
    """Whether this is the name of a layout, or of a file that has one."""
    if not isinstance(name, str):
        return False
    if ".py" not in name:
        return name in registry.catalogue().plugins["layouts"]
    try:
        return bool(registry.find("layouts", name))
    except GradsimError:  # which is told of the cell that is not found there either
        return False


def _fed(table: Any, size: int) -> Any:
    """The table of a cell, with this input size where it has none: of one that holds others, in the first."""
    table = {"name": table} if isinstance(table, str) else table
    if not (isinstance(table, Mapping) and isinstance(table.get("name"), str)):
        return table
    try:
        cls: Any = registry.find("cells", table["name"])
    except GradsimError:  # which is told when it is built
        return table
    fields = {f.name: f for f in dataclasses.fields(cls)}
    if "input_size" in fields:
        return {"input_size": size, **table}
    kinds = {name: registry.class_in(hint) for name, hint in get_type_hints(cls).items() if name in fields}
    for name in (n for n, kind in kinds.items() if kind and issubclass(kind, Cell)):
        held = table[name] if name in table else _unfed(fields[name])
        if isinstance(held, list | tuple) and held:
            return {**table, name: [_fed(held[0], size), *held[1:]]}
        return {**table, name: _fed(held, size)} if held else table
    return table


def _unfed(field: dataclasses.Field[Any]) -> Any:
    """The tables of what a cell holds if it is told of none; the first has no input size."""
    made = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    tables = described(made if isinstance(made, tuple) else (made,))
    if tables and isinstance(tables[0], dict):
        tables[0].pop("input_size", None)
    return tables if isinstance(made, tuple) else tables[0] if isinstance(made, Cell) else None


def _of_kind(entry: Parameter, made: Any) -> Any:
    """What an argument may be of what was made for it."""
    if not entry.of:
        return made
    if entry.many:
        return tuple(one for one in made if isinstance(one, entry.cls)) if isinstance(made, tuple) else ()
    return made if isinstance(made, entry.cls) else None
