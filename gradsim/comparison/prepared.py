"""A comparison that has been checked, ready to be run."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import xarray as xr

from gradsim.comparison.alike import Alike
from gradsim.comparison.costs import costs, spread, variables
from gradsim.comparison.members import Member
from gradsim.contracts.cell import Cell
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.data.schema import FORMAT, Coordinates, Frame, phases_in_words
from gradsim.data.sink import Block
from gradsim.errors import BudgetError, GradsimError, OutOfRangeWarning
from gradsim.machine.disk import human
from gradsim.machine.progress import Advance, unseen
from gradsim.run.launch import Prepared, Running, executed
from gradsim.run.matching import COUNTS, parameter_count, units
from gradsim.run.prepared import Simulation
from gradsim.simulation import prepare
from gradsim.types import Array

DIMS = {
    "cell": "cell",
    "mitigation": "mitigations, in the order in which they act",
    "seed": "seed of all random numbers",
}
"""The dims of a comparison, before those of its runs; `mitigation` only where there are some."""

_OWN = ("cell", "cell_as_run", "blocks")
"""Of the provenance of a run, what is never told of all cells together."""


@contextmanager
def named(who: str) -> Iterator[None]:
    """Let errors, and warnings of numbers out of range, say which cell they are of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", OutOfRangeWarning)
        try:
            yield
        except GradsimError as error:
            raise type(error)(f"{who}: {error}") from error
    for warning in caught:
        ours = issubclass(warning.category, OutOfRangeWarning)
        warnings.warn(
            f"{who}: {warning.message}" if ours else warning.message, warning.category, stacklevel=6
        )


@dataclass(frozen=True)
class Comparison(Prepared):
    """A comparison that has been checked but not started: what `compare` does, in two parts.

    Parameters
    ----------
    cells
        By label, as they are run.
    mitigations
        By label; None where there is no such dim.
    members
        Each cell with each of the mitigations.
    record
        The recorders that were asked for.
    alike
        One run of each member, prepared as far as its plan goes.
    """

    cells: Mapping[str, Cell]
    mitigations: Mapping[str, tuple[Mitigation, ...]] | None
    members: Sequence[Member]
    seeds: tuple[int, ...]
    replicates: int
    match: str | None
    budget: int | None
    record: Sequence[str | Recorder]
    alike: Alike

    kind = "comparison"

    @property
    def runs(self) -> Mapping[str, Simulation]:
        """One of each member; they can be planned only."""
        return self.alike.runs

    @property
    def _by_cell(self) -> dict[str, Simulation]:
        """One of each cell, without mitigations."""
        plain = [self.runs[m.label] for m in self.members if not m.place.get("mitigation")]
        return dict(zip(self.cells, plain, strict=True))

    @property
    def _by_mitigation(self) -> dict[str, tuple[Member, Simulation]]:
        """One of each choice of mitigations, of the first cell."""
        of_first = [(m, self.runs[m.label]) for m in self.members if m.place["cell"] == 0]
        return dict(zip(self.mitigations or {}, of_first, strict=False))

    @cached_property
    def provenance(self) -> Mapping[str, Any]:  # type: ignore[override]
        """What is the same for all cells, and of each cell what is not."""
        by_cell = {label: dict(run.provenance) for label, run in self._by_cell.items()}
        first, *others = by_cell.values()
        common = {
            key: value
            for key, value in first.items()
            if key not in _OWN and all(other.get(key) == value for other in others)
        }
        own = {
            label: {key: value for key, value in told.items() if key not in common}
            for label, told in by_cell.items()
        }
        protocol: dict[str, Any] = {"match": self.match, "budget": self.budget, "seeds": list(self.seeds)}
        found = {**common, "comparison": protocol, "seed": None, "cells": own}
        if self.mitigations is None:
            return found
        protocol["replicates"] = self.replicates
        told = ("mitigations", "phases", "record", "plugins")
        by_mitigation = {
            label: {**{key: run.provenance[key] for key in told}, "absent": dict(member.absent)}
            for label, (member, run) in self._by_mitigation.items()
        }
        return {**found, "mitigations": by_mitigation}

    @property
    def dims(self) -> tuple[str, ...]:
        """The dims of all members, before those of a run."""
        return tuple(dim for dim in DIMS if dim != "mitigation" or self.mitigations is not None)

    @property
    def problem(self) -> Problem:
        return self._first.problem

    def frame(self) -> Frame:
        sizes = {dim: len(values) for dim, values in self._values.items()}
        return Frame({**sizes, **self.alike.sizes()}, self.problem.dtype, self._coordinates)

    @property
    def _values(self) -> dict[str, Array]:
        """The coordinates of the dims of all members."""
        labels = {
            "cell": list(self.cells),
            "mitigation": list(self.mitigations or ()),
            "seed": list(self.seeds),
        }
        return {dim: np.array(labels[dim]) for dim in self.dims}

    def _coordinates(self, dims: Iterable[str]) -> Coordinates:
        along = {dim: (dim, values, {"long_name": DIMS[dim]}) for dim, values in self._values.items()}
        told: Coordinates = {
            name: (self.dims[: np.ndim(x)], x, {"long_name": what})
            for name, (x, what) in self._protocol.items()
        }
        if self.mitigations is not None:
            acting = [phases_in_words(run.provenance) for _, run in self._by_mitigation.values()]
            what = {"long_name": "phases in which mitigations act, in order"}
            told["phases"] = ("mitigation", np.array(acting), what)
        return {**along, **told, **self.alike.coordinates(set(dims) - DIMS.keys())}

    @cached_property
    def _protocol(self) -> dict[str, tuple[Any, str]]:
        """What a cell has, and what was held equal: the values by cell, and what they are.

        What mitigations may change has their dim, too.
        """
        cells, run = self.cells.values(), [r.problem.cell for r in self.runs.values()]
        derivatives = [r.provenance["derivatives_of"].values() for r in self.runs.values()]
        of_runs: dict[str, tuple[list[Any], str]] = {
            "state_size": ([c.state_size for c in run], "components of the state"),
            "param_count": ([*map(parameter_count, run)], "parameters of the cell that a training changes"),
            "all_param_count": ([*map(_numbers, run)], "all parameters of the cell"),
            "derivatives": ([" / ".join(dict.fromkeys(by)) for by in derivatives], "what makes derivatives"),
        }
        if (chosen := self.problem.pairs.blocks_in) is not None:
            sizes = [sum(c.blocks[name] for name in chosen) for c in run]
            of_runs["directions"] = (sizes, "components of the chosen blocks, which products start from")
        found: dict[str, tuple[Any, str]] = {
            "hidden_size": ([sum(units(c)) for c in cells], "units, of all layers together")
        }
        for name, (values, what) in of_runs.items():
            found[name] = np.reshape(values, [len(self._values[dim]) for dim in self.dims[:-1]]), what
        if self.match is not None and self.budget is not None:
            counts = [COUNTS[self.match](c) for c in cells]
            found |= {
                "match": ([self.match for _ in cells], "what was held equal"),
                "budget": ([self.budget for _ in cells], "the most that a cell may have of it"),
                "budget_deviation": ([n / self.budget - 1 for n in counts], "how far off, of the budget"),
            }
        return {name: (np.array(values), what) for name, (values, what) in found.items()}

    def variables(self) -> list[Variable]:
        return [replace(v, dims=(*self.dims, *v.dims)) for v in (*self.alike.variables, *self._costs)]

    @property
    def _costs(self) -> list[Variable]:
        return [] if self.mitigations is None else variables(self.replicates)

    def chunks(self) -> Mapping[str, Mapping[str, int]]:
        found = {**{v.name: {} for v in self._costs}, **self._first.chunks()}
        return {name: {**of_run, **dict.fromkeys(self.dims, 1)} for name, of_run in found.items()}

    @property
    def _first(self) -> Simulation:
        return next(iter(self.runs.values()))

    @property
    def work(self) -> float:
        return len(self.seeds) * sum(run.work for run in self.runs.values())

    def refuse_beyond(self, memory: float | None, disk: float | None) -> None:
        for label, run in self.runs.items():
            with named(label):
                run.refuse_beyond(memory, None)
        needed = sum(self.sizes().values())
        free = disk if disk is not None else psutil.virtual_memory().available if memory is None else memory
        if needed > free:
            kind = "memory" if disk is None else "disk"
            raise BudgetError(
                f"{len(self.cells)} cells and {len(self.seeds)} seeds make {human(needed)} of data and "
                f"{human(free)} of {kind} is available; compare fewer of them, or narrow the pairs (max_lag, "
                "lags, sources, times)" + ", or write to disk (store=, --out)" * (disk is None)
            )

    def execute(self, running: Running, advance: Advance) -> dict[str, Any]:
        unchecked = {}
        for member, (j, seed) in itertools.product(self.members, enumerate(self.seeds)):
            with named(f"{member.label}, seed {seed}"):
                ds = self._run(member, seed, running, advance)
                taken = self._measured(member, seed, running)
            if "derivatives_not_checked" in ds.attrs:
                unchecked[member.label] = ds.attrs["derivatives_not_checked"]
            place = {**member.place, "seed": j}
            with Block(running.sink, {dim: slice(i, i + 1) for dim, i in place.items()}) as block:
                for variable in self.alike.variables:
                    if variable.name in ds:  # else there is none with these mitigations
                        block.write(variable.name, place, self.alike.fitted(ds[variable.name]))
                for name, values in taken.items():
                    block.write(name, place, values)
        told = {"derivatives_not_checked": json.dumps(unchecked)} if unchecked else {}
        return {
            "title": f"gradsim: {', '.join(self.cells)}",
            "gradsim_format": FORMAT,
            "provenance": json.dumps(self.provenance),
            **told,
        }

    def _measured(self, member: Member, seed: int, running: Running) -> dict[str, Any]:
        """What one gradient costs, and how it varies, where mitigations are compared."""
        if self.mitigations is None:
            return {}
        found: dict[str, Any] = dict(costs(member, seed, running))
        if self.replicates > 1:
            names = self.alike.joined["param"].tolist()
            for name, values in spread(member, seed, running, self.replicates).items():
                by_param = isinstance(values, dict)
                found[name] = np.array([values.get(n, np.nan) for n in names]) if by_param else values
        return found

    def _run(self, member: Member, seed: int, running: Running, advance: Advance) -> xr.Dataset:
        """One run, as `simulate` does it."""
        simulation = prepare(member.cell, rng=seed, **member.recording(self.record))
        sink = simulation.memory_sink()

        def told(stage: str, work: float) -> None:
            advance(f"{member.label}: {stage}", work)

        shown = nullcontext(advance if advance is unseen else told)
        attributes = executed(simulation, Running(sink, running.threads, running.memory), shown)
        return sink.dataset(attributes)


def _numbers(cell: Cell) -> int:
    return sum(int(np.size(p)) for p in cell.init_params(np.random.default_rng(0)).values())
