"""An experiment as a TOML file: its mistakes all at once, and the runs that it stands for."""

from __future__ import annotations

import dataclasses
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from gradsim import registry
from gradsim.cell import Cell
from gradsim.errors import GradsimError, InputError, unknown
from gradsim.experiment_keys import PairsKeys, RunKeys, mistaken_keys, phrases
from gradsim.mitigation import Mitigation
from gradsim.problem import Pairs
from gradsim.simulation import Simulation, prepare
from gradsim.task import Task

RECORD = ("product_norm", "adjoint", "adjoint_norm", "gradient_norm", "loss", "lyapunov")
"""What is recorded when an experiment does not say; `default_record` adds what mitigations change."""


class ExperimentError(InputError):
    """An experiment is wrong: the message has one line for each mistake."""


@dataclass(frozen=True)
class Experiment:
    """One run of an experiment: what `gradsim.prepare` takes, and what to call it."""

    name: str
    label: str
    cell: Cell
    task: Task
    mitigations: Sequence[Mitigation]
    record: Sequence[str]
    pairs: Pairs
    seed: int
    batch: int
    dtype: str

    def prepare(self) -> Simulation:
        """Check it and plan it; an error names this run."""
        try:
            return prepare(
                self.cell,
                task=self.task,
                batch=self.batch,
                mitigations=self.mitigations,
                record=self.record,
                pairs=self.pairs,
                rng=self.seed,
                dtype=self.dtype,
                in_memory=False,
            )
        except GradsimError as error:
            raise type(error)(f"{self.name}: {error}") from error


def read_toml(path: Path | None = None) -> dict[str, Any]:
    """The tables of a file; those of the built-in default experiment without one."""
    if path is None:
        return tomllib.loads(resources.files("gradsim").joinpath("default.toml").read_text())
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not valid TOML: {error}") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def build(tables: Mapping[str, Any], *, name: str, source: str = "experiment") -> list[Experiment]:
    """All runs of an experiment, the main one first.

    Parameters
    ----------
    tables
        As read from TOML.
    name
        Of the main run, where the tables have none.
    source
        What an error calls them.

    Raises
    ------
    ExperimentError
        With every mistake: unknown keys, plugins and parameters, wrong types and values.
    """
    mistakes = list(mistaken_keys(tables))
    drafts = list(_drafts(tables, mistakes))
    parts = [draft.parts() for draft in drafts]
    labels = [draft.own.get("label") for draft in drafts]
    mistakes += [
        f"compare: label {n!r} is used twice" for n, used in Counter(labels).items() if n and used > 1
    ]
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ExperimentError("\n  ".join([f"{source}: {count}", *mistakes]))
    return list(_named(tables.get("name", name), labels, parts))


def _named(name: str, labels: Sequence[Any], parts: Sequence[dict[str, Any]]) -> Iterator[Experiment]:
    cell = parts[0]["cell"].name
    yield Experiment(name, labels[0] or (cell if cell not in labels else name), **parts[0])
    for label, part in zip(labels[1:], parts[1:], strict=True):
        yield Experiment(f"{name}-{label}", label, **part)


def default_record(mitigations: Sequence[Mitigation]) -> list[str]:
    """What an experiment records unless it says otherwise: raw, and effective where that may differ."""
    used = registry.RunHooks(mitigations).used
    found = list(RECORD)
    if used & {"gradsim_backward_jacobian", "gradsim_backward_step", "gradsim_penalty", "gradsim_backward"}:
        found += [f"effective_{n}" for n in ("adjoint", "adjoint_norm", "gradient_norm")]
    if "gradsim_backward_step" in used:
        found.append("effective_adjoint_factor")
    elif "gradsim_backward_jacobian" in used:
        found.append("effective_product_norm")
    return found


def _drafts(tables: Mapping[str, Any], mistakes: list[str]) -> Iterator[_Draft]:
    yield _Draft(tables, tables, "", mistakes)
    shared = {k: v for k, v in tables.items() if k in RunKeys.model_fields}
    for i, own in _items(tables.get("compare")):
        if isinstance(own, Mapping):
            changed = {k: _merged(shared.get(k), v) for k, v in own.items()}
            yield _Draft({**shared, **changed}, own, f"compare.{i}.", mistakes)


def _merged(main: Any, own: Any) -> Any:
    """A table without a name changes parameters of the main one."""
    partial = isinstance(own, Mapping) and isinstance(main, Mapping) and "name" not in own
    return {**main, **own} if partial and "name" in main else own


def _items(value: Any) -> list[tuple[int, Any]]:
    return list(enumerate(value)) if isinstance(value, list) else []


@dataclass
class _Draft:
    """One run while its parts are built; a part that cannot be built is None, and reported.

    Wrong types are left out here, because the keys report them. Mistakes in what a compared run
    inherits belong to the main one.
    """

    tables: Mapping[str, Any]
    own: Mapping[str, Any]
    prefix: str
    mistakes: list[str]

    def parts(self) -> dict[str, Any]:
        """The arguments of `Experiment`, except what it is called."""
        task = self._plugin("task", "tasks", self.tables.get("task"))
        tables = _items(self.tables.get("mitigations"))
        built = [self._plugin(f"mitigations.{i}", "mitigations", table) for i, table in tables]
        mitigations = [m for m in built if m is not None]
        values = ("seed", "batch", "dtype")
        return {
            "task": task,
            "cell": self._cell(task),
            "mitigations": mitigations,
            "record": self._record(mitigations),
            "pairs": self._pairs(),
            **{k: self.tables.get(k, RunKeys.model_fields[k].default) for k in values},
        }

    def _cell(self, task: Task | None) -> Any:
        size = {} if task is None else {"input_size": task.input_size}
        cell = self._plugin("cell", "cells", self.tables.get("cell"), size)
        if cell is not None and task is not None and cell.input_size != task.input_size:
            fix = f"should be {task.input_size}, as the task {task.name} has it; leave it out"
            self._report("cell.input_size", f"{fix} (got {cell.input_size})")
        return cell

    def _plugin(self, key: str, family: str, table: Any, defaults: Mapping[str, Any] | None = None) -> Any:
        if not isinstance(table, Mapping) or not isinstance(name := table.get("name"), str):
            return None
        known = registry.catalogue().plugins[family]
        if name in known:
            given = {k: v for k, v in table.items() if k != "name"}
            return self._built(key, known[name], {**(defaults or {}), **given}, given)
        self._report(f"{key}.name", unknown(family.removesuffix("s"), name, known))
        return None

    def _built(self, key: str, cls: Any, parameters: Mapping[str, Any], given: Mapping[str, Any]) -> Any:
        fields = {f.name for f in dataclasses.fields(cls)}
        for name in sorted(given.keys() - fields):
            self._report(f"{key}.{name}", unknown(f"parameter of {cls.name}", name, fields))
        try:
            return cls.from_parameters({k: v for k, v in parameters.items() if k in fields})
        except GradsimError as error:
            self._report_all(key, error)
            return None

    def _report_all(self, key: str, error: GradsimError) -> None:
        # A plugin puts all its mistakes into one line; behind it is the validation, one by one.
        if isinstance(error.__context__, ValidationError):
            for name, what in phrases(error.__context__):
                self._report(f"{key}.{name}", what)
        else:
            self._report(key, error)

    def _report(self, key: str, what: object) -> None:
        if self._is_own(key):
            self.mistakes.append(f"{self.prefix}{key}: {what}")

    def _is_own(self, key: str) -> bool:
        part, _, parameter = key.partition(".")
        own = self.own.get(part)
        if parameter and isinstance(own, Mapping) and "name" not in own:
            return parameter.split(".")[0] in own
        return part in self.own

    def _record(self, mitigations: Sequence[Mitigation]) -> list[str]:
        names = self.tables.get("record")
        if not isinstance(names, list):
            return default_record(mitigations)
        if not names:
            self._report("record", f"should name a recorder; leave it out for {', '.join(RECORD)}")
        known = registry.recorders()
        for i, name in enumerate(names):
            if isinstance(name, str) and name not in known:
                self._report(f"record.{i}", unknown("recorder", name, known))
        return names

    def _pairs(self) -> Pairs | None:
        try:
            keys = PairsKeys.model_validate(self.tables.get("pairs", {}))
            times, sources, lags = (
                None if v is None else tuple(v) for v in (keys.times, keys.sources, keys.lags)
            )
            return Pairs(times, sources, keys.max_lag, lags)
        except ValidationError:
            return None
        except InputError as error:
            self._report("pairs", str(error).removeprefix("pairs: "))
            return None
