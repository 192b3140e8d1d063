"""Forecasting a series: what all tasks of this kind share."""

from __future__ import annotations

import functools
import itertools
import math
from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from gradsim import Baseline, Episode, FiniteTask, squared_error
from gradsim.errors import InputError
from gradsim.types import PositiveInt, Probability

PARTS = ("train", "validation", "test")
SPLIT = (0.7, 0.15, 0.15)


@dataclass(frozen=True, eq=False)
class Series(FiniteTask):
    """Say at every step what the series is `ahead` steps later.

    A series z has one row per step and one or more columns; it is standardised by the mean and standard
    deviation of its training part. The parts follow each other in time: the first `split[0]` of the
    rows are for training, the next `split[1]` for validation, the rest for the test; a share of 0
    leaves a part out. Each is cut into windows of `length` rows, one behind the other:

        inputs x_t = z_t, targets y_t = z_{t + ahead}, both from the same part.

    What is left of a part and fills no window is not used. The loss is the squared error, the mean over
    steps and target columns. Always saying the value of now is the baseline "last value"; its loss is
    that of the validation part.

    Unless they are given, `length` and `split` are what the series has room for. Windows have 100 rows, or
    what fits into 15 % of the series. The split is 70, 15 and 15 %; where that is too little for a window,
    validation and test get as much as one takes while half is left for training, or the validation alone,
    or neither.

    A subclass gives `values`, and `input_columns`, `target_columns` where they are not all columns.
    """

    length: PositiveInt | None = None
    ahead: PositiveInt = 1
    split: tuple[Probability, Probability, Probability] | None = None

    consecutive = True

    def __post_init__(self):
        super().__post_init__()
        if self.length is None:
            object.__setattr__(self, "length", window(_shortest(self.split or SPLIT, self.rows), self.ahead))
        if self.split is None:
            object.__setattr__(self, "split", fitting(SPLIT, self.rows, self.length + self.ahead))
        if not math.isclose(sum(self.split), 1) or not self.split[0]:
            raise InputError(
                f"{type(self).__name__}: split should be the shares of {', '.join(PARTS)}, with a sum of 1 "
                f"and some for train (got {self.split})"
            )
        self._check_length()

    @abstractmethod
    def values(self):
        """The series as it is, an array (row, column)."""

    @property
    def columns(self):
        """The names of the columns, for messages; () where they have none."""
        return ()

    @property
    def input_columns(self):
        """The numbers of the columns that are inputs."""
        return tuple(range(self._checked.shape[1]))

    @property
    def target_columns(self):
        """The numbers of the columns that are forecast."""
        return tuple(range(self._checked.shape[1]))

    @property
    def rows(self):
        """The number of rows; a subclass that knows it without the values says so."""
        return len(self._checked)

    @property
    def input_size(self):
        return len(self.input_columns)

    @property
    def output_size(self):
        return len(self.target_columns)

    @property
    def sequences(self):
        return {
            part: (stop - start - self.ahead) // self.length for part, (start, stop) in self.parts.items()
        }

    @property
    def parts(self):
        """The first row of each part and the one behind its last."""
        return cut(self.split, self.rows)

    @functools.cached_property
    def standardised(self):
        """The series with mean 0 and standard deviation 1 in its training part."""
        known = self._checked[slice(*self.parts["train"])]
        still = np.flatnonzero((known == known[0]).all(axis=0))
        if len(still):
            raise InputError(
                f"{type(self).__name__}: column {self._column(still[0])} is {known[0, still[0]]:g} in every "
                "row of the training part and cannot be standardised; leave it out"
            )
        return (self._checked - known.mean(axis=0)) / known.std(axis=0)

    def take(self, part, chosen):
        now = self._now(part, chosen)
        inputs, targets = (
            self.standardised[rows][..., list(columns)]
            for rows, columns in ((now, self.input_columns), (now + self.ahead, self.target_columns))
        )
        return Episode(inputs, targets, np.full(now.shape, 1 / self.length))

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)

    @functools.cached_property
    def baseline(self):
        part = "validation" if "validation" in self.parts else "train"
        now = self._now(part, np.arange(self.sequences[part]))
        forecast = self.standardised[:, list(self.target_columns)]
        return Baseline("last value", float(np.mean((forecast[now + self.ahead] - forecast[now]) ** 2)))

    def _now(self, part, chosen):
        """The rows of the inputs, (time, batch)."""
        start, _ = self.parts[part]
        return start + self.length * np.asarray(chosen) + np.arange(self.length)[:, None]

    @functools.cached_property
    def _checked(self):
        values = np.asarray(self.values(), dtype=np.float64)
        wrong = np.argwhere(~np.isfinite(values))
        if len(wrong):
            row, column = wrong[0]
            raise InputError(
                f"{type(self).__name__}: row {row} (the first is 0) of column {self._column(column)} is "
                f"{values[row, column]}; {len(wrong)} of {values.size} values are missing: fill them in or "
                "leave these rows out"
            )
        return values

    def _column(self, number):
        return repr(self.columns[number]) if self.columns else number

    def _check_length(self):
        needed = self.length + self.ahead
        part, (start, stop) = min(self.parts.items(), key=lambda item: item[1][1] - item[1][0])
        if stop - start < needed:
            raise InputError(
                f"{type(self).__name__}: length + ahead should be at most {stop - start}, the rows of the "
                f"{part} part (got {self.length} + {self.ahead}); the series has {self.rows} rows, and needs "
                f"{self._rows_for(needed)} for this length"
            )

    def _rows_for(self, needed):
        """The least number of rows of which every part gets as many as needed."""
        least = math.floor((needed - 1) / min(filter(None, self.split)))
        return next(n for n in itertools.count(least) if _shortest(self.split, n) >= needed)


def cut(split, rows):
    """Where each part with a share begins and ends."""
    ends = [round(share * rows) for share in itertools.accumulate(split, initial=0)]
    return {part: (a, b) for part, share, a, b in zip(PARTS, split, ends, ends[1:], strict=False) if share}


def window(shortest, ahead):
    """The length of a window that fits into the shortest part, 1 to 100."""
    return max(1, min(100, shortest - ahead))


def fitting(split, rows, needed):
    """The split, changed where a part would be shorter than needed: see `Series`."""
    if _shortest(split, rows) >= needed:
        return split
    for kept in (2, 1):
        if 2 * kept * needed <= rows:
            return (1 - kept * needed / rows, needed / rows, (kept - 1) * needed / rows)
    return (1.0, 0.0, 0.0)


def _shortest(split, rows):
    return min(stop - start for start, stop in cut(split, rows).values())
