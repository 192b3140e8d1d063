"""Forecasting the yearly sunspot numbers."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from importlib import resources

import numpy as np

from gradsim import Episode, Task, squared_error
from gradsim.errors import InputError
from gradsim.types import PositiveInt


@functools.cache
def yearly():
    """Years 1700..2008 and the mean sunspot number of each, 309 values.

    National Geophysical Data Center (NOAA), public domain.
    """
    text = resources.files("gradsim_tasks").joinpath("sunspots.csv").read_text()
    return np.array([row.split(",") for row in text.split()[1:]], dtype=np.float64).T


@dataclass(frozen=True, eq=False)
class Sunspots(Task):
    """Say the sunspot number of the next year, at every year.

    Input and target are the numbers of 1700..2008, standardised by the mean and standard deviation of
    the whole series. A sequence is a window of `length` years, starting at a random one; with the
    greatest length, 308, there is only one window. The loss is the mean over the years.
    """

    name = "sunspots"

    length: PositiveInt = 308

    def __post_init__(self):
        super().__post_init__()
        if self.length > 308:
            raise InputError(
                f"Sunspots: length should be 308 or less, the series has 309 years (got {self.length})"
            )

    @property
    def input_size(self):
        return 1

    @property
    def output_size(self):
        return 1

    def sample(self, rng, batch):
        _, numbers = yearly()
        series = (numbers - numbers.mean()) / numbers.std()
        start = rng.integers(0, len(series) - self.length, batch)
        windows = series[start + np.arange(self.length + 1)[:, None], None]
        weights = np.full((self.length, batch), 1 / self.length)
        return Episode(windows[:-1], windows[1:], weights)

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)
