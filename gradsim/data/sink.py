"""Where recorded values go: memory, or a store on disk (`zarr_sink`)."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import xarray as xr

from gradsim.contracts.pieces import Region, local
from gradsim.contracts.recorder import Variable
from gradsim.data.labelled import labelled
from gradsim.data.schema import Coordinates, Frame
from gradsim.types import Array

Bounds = Mapping[str, slice]


@dataclass
class Block(AbstractContextManager["Block"]):
    """Part of the dataset that is filled in memory and written in one go when it is left."""

    sink: Sink
    bounds: Bounds
    arrays: dict[str, Array] = field(default_factory=dict)

    def write(self, name: str, region: Region, values: Array) -> None:
        """Put values where `region` (dim -> index in the whole dataset) says."""
        if name not in self.arrays:
            self.arrays[name] = self.sink.open(name, self.bounds)
        dims = self.sink.variables[name].dims
        index = tuple(local(region.get(d, slice(None)), self._start(d)) for d in dims)
        self.arrays[name][index] = values

    def _start(self, dim: str) -> int:
        return (self.bounds[dim].start or 0) if dim in self.bounds and self.sink.offset else 0

    def write_out(self) -> None:
        """Hand what was filled to the sink."""
        for name, array in self.arrays.items():
            self.sink.close(name, self.bounds, array)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            self.write_out()


class Sink(ABC):
    """Holds declared variables; what is never written stays NaN."""

    offset: bool
    """Whether a block is an array of its own, and not a view of the whole."""

    def __init__(self, frame: Frame, variables: Sequence[Variable]) -> None:
        self.frame, self.sizes = frame, frame.sizes
        self.variables = {v.name: v for v in variables}

    def shape(self, name: str, bounds: Bounds | None = None) -> tuple[int, ...]:
        """The shape of a variable, or of the part of it within bounds."""
        full = {d: self.sizes[d] for d in self.variables[name].dims}
        return tuple(len(range(*(bounds or {}).get(d, slice(None)).indices(n))) for d, n in full.items())

    def dtype(self, name: str) -> np.dtype:
        """The dtype of a variable."""
        return np.dtype(self.variables[name].dtype or self.frame.dtype)

    def coordinates(self) -> Coordinates:
        """The coordinates of all declared variables."""
        return self.frame.coordinates({d for v in self.variables.values() for d in v.dims})

    @abstractmethod
    def open(self, name: str, bounds: Bounds) -> Array:
        """The array that a block of a variable is filled in."""

    @abstractmethod
    def close(self, name: str, bounds: Bounds, array: Array) -> None:
        """Keep a filled block."""

    def put(self, name: str, array: Array) -> None:
        """Keep a whole variable."""
        self.close(name, {}, array)

    @abstractmethod
    def read(self, name: str) -> Array:
        """A whole variable, as far as it has been written."""

    def sync(self) -> None:  # noqa: B027 - memory has nothing to do
        """Have all that was written where no loss of power takes it away."""

    @abstractmethod
    def shorten(self, lengths: Mapping[str, int]) -> None:
        """Cut the ends of some dims off, because the run was shorter than it might have been."""


class MemorySink(Sink):
    """Keeps everything in memory."""

    offset = False

    def __init__(self, frame: Frame, variables: Sequence[Variable]) -> None:
        super().__init__(frame, variables)
        self._arrays: dict[str, Array] = {}
        self._lengths: Mapping[str, int] = {}
        self._lock = threading.Lock()

    def open(self, name: str, bounds: Bounds) -> Array:
        return self.read(name)

    def close(self, name: str, bounds: Bounds, array: Array) -> None:
        pass

    def put(self, name: str, array: Array) -> None:
        # The array itself, if nobody else may keep or change it.
        fits = array.shape == self.shape(name) and array.dtype == self.dtype(name)
        own = array.flags.writeable and array.base is None
        if fits and own and not any(array is kept for kept in self._arrays.values()):
            self._arrays[name] = array
        elif name in self._arrays:
            self._arrays[name][...] = array
        else:
            self._arrays[name] = np.broadcast_to(array, self.shape(name)).astype(self.dtype(name), order="C")

    def read(self, name: str) -> Array:
        with self._lock:
            if name not in self._arrays:
                self._arrays[name] = np.full(self.shape(name), np.nan, dtype=self.dtype(name))
        return self._arrays[name]

    def shorten(self, lengths: Mapping[str, int]) -> None:
        self._lengths = lengths

    def dataset(self, attributes: Mapping[str, Any]) -> xr.Dataset:
        """The labelled result."""
        values = {name: self.read(name) for name in self.variables}
        found = labelled(values, self.variables.values(), self.coordinates(), attributes)
        shorter = {d: slice(n) for d, n in self._lengths.items() if d in found.dims}
        return found.isel(shorter) if shorter else found
