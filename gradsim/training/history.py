"""Values on their way from a training into its dataset."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from gradsim.data.sink import Block, Sink
from gradsim.types import Array

ROWS = 1024
"""Updates that are written as one chunk."""


class History:
    """Rows of each update and of each validation, and probes.

    A chunk of updates is written when it is full, and held until then: what a checkpoint must keep are
    the rows of the chunk at work. So no write that was cut short can lose what a checkpoint relies on.
    """

    def __init__(self, sink: Sink) -> None:
        self.sink = sink
        self._start = 0
        self._rows: list[Mapping[str, Any]] = []
        self._validations: list[Mapping[str, Any]] = []

    def update(self, row: Mapping[str, Any]) -> None:
        """Take the row of the next update."""
        self._rows.append(row)
        if len(self._rows) == ROWS:
            self._write("update", self._start, self._rows)
            self._start += ROWS
            self._rows = []

    def validation(self, row: Mapping[str, Any]) -> None:
        """Take the row of the next validation."""
        self._validations.append(row)

    def probe(self, index: int, values: Mapping[str, Array]) -> None:
        """Write a probe."""
        here = {"probe_update": slice(index, index + 1)}
        with Block(self.sink, here) as block:
            for name, value in values.items():
                block.write(name, here, value[None])

    def flush(self) -> None:
        """Write all rows, so that they can be read."""
        self._write("update", self._start, self._rows)
        self._write("validation_update", 0, self._validations)

    def _write(self, dim: str, start: int, rows: Sequence[Mapping[str, Any]]) -> None:
        bounds = {dim: slice(start, start + len(rows))}
        with Block(self.sink, bounds) as block:
            for name, values in self._stacked(dim, rows).items():
                block.write(name, bounds, values)

    def _stacked(self, dim: str, rows: Sequence[Mapping[str, Any]]) -> dict[str, Array]:
        found = {}
        for name, variable in self.sink.variables.items():
            if variable.dims[:1] == (dim,) and rows:
                missing = np.full(self.sink.shape(name)[1:], np.nan)
                found[name] = np.array([row.get(name, missing) for row in rows], dtype=np.float64)
        return found

    def held(self) -> dict[str, Array]:
        """What has not been written for good, for a checkpoint."""
        return {
            **self._stacked("update", self._rows),
            **self._stacked("validation_update", self._validations),
        }

    def restore(self, update: int, held: Mapping[str, Array]) -> None:
        """Go on from a checkpoint after some updates."""
        self._start = update // ROWS * ROWS
        by_dim: dict[str, dict[str, Array]] = {"update": {}, "validation_update": {}}
        for name, values in held.items():
            by_dim[self.sink.variables[name].dims[0]][name] = values
        self._rows, self._validations = (_unstacked(table) for table in by_dim.values())


def _unstacked(table: Mapping[str, Array]) -> list[Mapping[str, Any]]:
    count = max((len(values) for values in table.values()), default=0)
    return [{name: values[i] for name, values in table.items()} for i in range(count)]
