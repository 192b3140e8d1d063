"""Forecasting the yearly sunspot numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np

from gradsim_tasks.series import Series


@functools.cache
def yearly():
    """Years 1700..2008 and the mean sunspot number of each, 309 values.

    National Geophysical Data Center (NOAA), public domain.
    """
    text = resources.files("gradsim_tasks").joinpath("sunspots.csv").read_text()
    return np.array([row.split(",") for row in text.split()[1:]], dtype=np.float64).T


@dataclass(frozen=True, eq=False)
class Sunspots(Series):
    """Say the sunspot number of the next year, at every year.

    The numbers of 1700..2008, in windows of 45 years unless `length` says otherwise; length=308 is one
    window, the whole series. Parts and scaling are those of `gradsim_tasks.series.Series`.
    """

    name = "sunspots"

    rows = 309

    def values(self):
        return yearly()[1][:, None]
