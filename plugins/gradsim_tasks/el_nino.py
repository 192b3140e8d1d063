"""Forecasting the temperature of the sea off Peru."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np

from gradsim.types import PositiveInt
from gradsim_tasks.series import Series


@functools.cache
def monthly():
    """Sea surface temperatures in degrees Celsius, January 1950 to December 2010, (61 years, 12 months).

    Means of 0-10 degrees South, 90-80 degrees West (Nino 1+2), of ERSST.V3B by the National Weather Service
    (NOAA), public domain.
    """
    text = resources.files("gradsim_tasks").joinpath("el_nino.csv").read_text()
    return np.array([row.split(",")[1:] for row in text.split()[1:]], dtype=np.float64)


@dataclass(frozen=True, eq=False)
class ElNino(Series):
    """Say the sea surface temperature off Peru one month ahead, at every month.

    732 monthly means, 1950..2010: seasons, and every two to seven years a warm spell, El Nino. Windows of
    three years, 14 of them for training (a batch can have no more); shorter ones make it hard to do better
    than the baseline "last value". Parts and scaling are those of `gradsim_tasks.series.Series`.
    """

    name = "el_nino"

    length: PositiveInt = 36

    def values(self):
        return monthly().reshape(-1, 1)
