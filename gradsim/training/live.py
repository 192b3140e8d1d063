"""A figure that is drawn anew while a training goes on."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import xarray as xr

from gradsim.types import PositiveFloat


@dataclass
class Live:
    """The overview of a training so far, in the files `stem`.png and `stem`.svg, at most every `seconds`."""

    stem: Path
    seconds: PositiveFloat = 10.0
    _drawn: float = field(default_factory=time.monotonic)

    @property
    def due(self) -> bool:
        """Whether it is time again."""
        return time.monotonic() - self._drawn >= self.seconds

    def draw(self, dataset: Callable[[], xr.Dataset]) -> None:
        """Draw what there is."""
        from gradsim import plot  # matplotlib is slow to import

        hidden = self.stem.with_name(f".{self.stem.name}")
        for file in plot.save(plot.training_overview(dataset()), hidden):
            os.replace(file, self.stem.with_suffix(file.suffix))  # a viewer never sees half of it
        self._drawn = time.monotonic()
