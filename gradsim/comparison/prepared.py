"""A comparison that has been checked, ready to be run."""

from __future__ import annotations

import itertools
import json
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import psutil
import xarray as xr

from gradsim.comparison.alike import Alike
from gradsim.contracts.cell import Cell
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Variable
from gradsim.data.schema import FORMAT, Coordinates, Frame
from gradsim.data.sink import Block
from gradsim.errors import BudgetError, GradsimError, OutOfRangeWarning
from gradsim.machine.disk import human
from gradsim.machine.progress import Advance, unseen
from gradsim.run.launch import Prepared, Running, executed
from gradsim.run.matching import COUNTS, parameter_count, units
from gradsim.run.prepared import Simulation
from gradsim.simulation import prepare

DIMS = {"cell": "cell", "seed": "seed of all random numbers"}
"""The dims of a comparison, before those of its runs."""

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
    settings
        What `simulate` is given besides cell and seed.
    alike
        One run of each cell, prepared as far as its plan goes.
    """

    cells: Mapping[str, Cell]
    seeds: tuple[int, ...]
    match: str | None
    budget: int | None
    settings: Mapping[str, Any]
    alike: Alike

    kind = "comparison"

    @property
    def runs(self) -> Mapping[str, Simulation]:
        """One of each cell; they can be planned only."""
        return self.alike.runs

    @cached_property
    def provenance(self) -> Mapping[str, Any]:  # type: ignore[override]
        """What is the same for all cells, and of each cell what is not."""
        by_cell = {label: dict(run.provenance) for label, run in self.runs.items()}
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
        protocol = {"match": self.match, "budget": self.budget, "seeds": list(self.seeds)}
        return {**common, "comparison": protocol, "seed": None, "cells": own}

    @property
    def problem(self) -> Problem:
        return self._first.problem

    def frame(self) -> Frame:
        sizes = {"cell": len(self.cells), "seed": len(self.seeds), **self.alike.sizes()}
        return Frame(sizes, self.problem.dtype, self._coordinates)

    def _coordinates(self, dims: Iterable[str]) -> Coordinates:
        values = {"cell": np.array(list(self.cells)), "seed": np.array(self.seeds)}
        along = {dim: (dim, values[dim], {"long_name": DIMS[dim]}) for dim in DIMS}
        told = {name: ("cell", x, {"long_name": what}) for name, (x, what) in self._protocol.items()}
        return {**along, **told, **self.alike.coordinates(set(dims) - DIMS.keys())}

    @cached_property
    def _protocol(self) -> dict[str, tuple[Any, str]]:
        """What a cell has, and what was held equal: the values by cell, and what they are."""
        cells = self.cells.values()
        derivatives = [run.provenance["derivatives_of"].values() for run in self.runs.values()]
        found = {
            "hidden_size": ([sum(units(c)) for c in cells], "units, of all layers together"),
            "state_size": ([c.state_size for c in cells], "components of the state"),
            "param_count": ([*map(parameter_count, cells)], "parameters of the cell that a training changes"),
            "all_param_count": ([_numbers(c) for c in cells], "all parameters of the cell"),
            "derivatives": ([" / ".join(dict.fromkeys(by)) for by in derivatives], "what makes derivatives"),
        }
        if (chosen := self.problem.pairs.blocks_in) is not None:
            sizes = [sum(c.blocks[name] for name in chosen) for c in cells]
            found["directions"] = (sizes, "components of the chosen blocks, which products start from")
        if self.match is not None and self.budget is not None:
            counts = [COUNTS[self.match](c) for c in cells]
            found |= {
                "match": ([self.match for _ in cells], "what was held equal"),
                "budget": ([self.budget for _ in cells], "the most that a cell may have of it"),
                "budget_deviation": ([n / self.budget - 1 for n in counts], "how far off, of the budget"),
            }
        return {name: (np.array(values), what) for name, (values, what) in found.items()}

    def variables(self) -> list[Variable]:
        return [replace(v, dims=(*DIMS, *v.dims)) for v in self.alike.variables]

    def chunks(self) -> Mapping[str, Mapping[str, int]]:
        return {name: {**found, "cell": 1, "seed": 1} for name, found in self._first.chunks().items()}

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
        members = itertools.product(enumerate(self.cells.items()), enumerate(self.seeds))
        unchecked = {}
        for (i, (label, cell)), (j, seed) in members:
            with named(f"{label}, seed {seed}"):
                ds = self._run(cell, seed, running, label, advance)
            if "derivatives_not_checked" in ds.attrs:
                unchecked[label] = ds.attrs["derivatives_not_checked"]
            bounds = {"cell": slice(i, i + 1), "seed": slice(j, j + 1)}
            with Block(running.sink, bounds) as block:
                for variable in self.alike.variables:
                    block.write(variable.name, {"cell": i, "seed": j}, self.alike.fitted(ds[variable.name]))
        told = {"derivatives_not_checked": json.dumps(unchecked)} if unchecked else {}
        return {
            "title": f"gradsim: {', '.join(self.cells)}",
            "gradsim_format": FORMAT,
            "provenance": json.dumps(self.provenance),
            **told,
        }

    def _run(self, cell: Cell, seed: int, running: Running, label: str, advance: Advance) -> xr.Dataset:
        """One run, as `simulate` does it."""
        simulation = prepare(cell, rng=seed, **self.settings)
        sink = simulation.memory_sink()

        def told(stage: str, work: float) -> None:
            advance(f"{label}: {stage}", work)

        shown = nullcontext(advance if advance is unseen else told)
        attributes = executed(simulation, Running(sink, running.threads, running.memory), shown)
        return sink.dataset(attributes)


def _numbers(cell: Cell) -> int:
    return sum(int(np.size(p)) for p in cell.init_params(np.random.default_rng(0)).values())
