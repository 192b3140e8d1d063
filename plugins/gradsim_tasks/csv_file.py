"""Forecasting a series of one's own."""

from __future__ import annotations

import csv
import functools
import io
import math
from dataclasses import dataclass, field

import numpy as np

from gradsim.errors import unknown
from gradsim_tasks.files import FromFile
from gradsim_tasks.series import Series

SEPARATORS = ",;\t"


@dataclass(frozen=True, eq=False)
class Csv(FromFile, Series):
    """Say at every row of a CSV file what some of its columns are `ahead` rows later.

    The file `path` is UTF-8: rows in the order of time, the first line with the names of the
    columns, separated by commas, semicolons or tabs (whichever that line has most of). All columns of
    numbers are `inputs` and the last one of these is the target, unless `inputs` and `targets` name others:

        gradsim run --task csv:weather.csv --set 'task.targets=["rain"]' --set task.length=50

    Columns of anything else, such as dates, and one without a name, such as the index that pandas writes,
    are left out. Parts, windows, scaling and the baseline "last value" are those of every series here
    (`gradsim_tasks.series.Series`).
    """

    name = "csv"

    path: str = field(kw_only=True)
    inputs: tuple[str, ...] | None = None
    targets: tuple[str, ...] | None = None

    def values(self):
        return self._read["values"]

    @property
    def columns(self):
        return self._read["columns"]

    @property
    def input_columns(self):
        return tuple(self.columns.index(name) for name in self._read["inputs"])

    @property
    def target_columns(self):
        return tuple(self.columns.index(name) for name in self._read["targets"])

    @functools.cached_property
    def _read(self):
        """The names of the inputs, the targets and both together, and the values of these columns."""
        table = _Table(self)
        inputs = table.numeric() if self.inputs is None else table.known(self.inputs)
        targets = table.numeric()[-1:] if self.targets is None else table.known(self.targets)
        columns = tuple(name for name in table.names if name in {*inputs, *targets})
        values = np.array([table.numbers(name) for name in columns]).T
        return {"inputs": inputs, "targets": targets, "columns": columns, "values": values}


class _Table:
    """The names of the columns of a file, its rows, and the numbers of their lines."""

    def __init__(self, task):
        self.error, self.path = task.error, task.path
        lines = self._parsed(task.text())
        self.names = self._checked_names(lines[0][1] if lines else [])
        self.rows = lines[1:]
        for line, row in self.rows:
            if len(row) != len(self.names):
                raise self.error(f"line {line} has {len(row)} entries for {len(self.names)} columns")

    def numeric(self):
        """The columns that have a name and numbers."""
        columns = zip(self.names, zip(*(row for _, row in self.rows), strict=True), strict=False)
        found = tuple(name for name, entries in columns if name and any(map(_is_number, entries)))
        if not found:
            raise self.error(f"no column holds numbers; there are {', '.join(map(repr, self.names))}")
        return found

    def known(self, names):
        """Names that a user gave."""
        if not names or len(set(names)) < len(names):
            raise self.error(f"inputs and targets should each name one column or more, once (got {names})")
        for name in names:
            if name not in self.names:
                raise unknown(f"column of {self.path}", name, self.names)
        return names

    def numbers(self, name):
        """A column, all of whose entries should be numbers."""
        at = self.names.index(name)
        for line, row in self.rows:
            if not _is_number(row[at]) or not math.isfinite(float(row[at])):
                what = f"{row[at]!r} is no finite number" if row[at] else "there is nothing"
                raise self.error(
                    f"line {line}, column {name!r}: {what}; fill it in, delete the line, or give "
                    "`inputs` and `targets` without this column"
                )
        return [float(row[at]) for _, row in self.rows]

    def _parsed(self, text):
        separator = max(SEPARATORS, key=text.partition("\n")[0].count)
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
        try:
            return [(reader.line_num, [entry.strip() for entry in row]) for row in reader if row]
        except csv.Error as error:
            raise self.error(f"line {reader.line_num}: {error}") from None

    def _checked_names(self, names):
        if not names or any(map(_is_number, names)):
            raise self.error(f"the first line should name the columns (it is {names})")
        for name in filter(None, names):
            if names.count(name) > 1:
                raise self.error(f"the column {name!r} is there {names.count(name)} times; rename one")
        return names


def _is_number(entry):
    try:
        float(entry)
    except ValueError:
        return False
    return True
