"""Arrays with their labels, as one dataset."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr

from gradsim.contracts.recorder import Variable
from gradsim.data import schema
from gradsim.data.schema import Coordinates
from gradsim.types import Array

_KNOWN_BYTES = 2**16
"""Coordinates up to this size are compared with those of earlier datasets."""


def labelled(
    values: Mapping[str, Array],
    variables: Iterable[Variable],
    coordinates: Coordinates,
    attributes: Mapping[str, Any],
) -> xr.Dataset:
    """The dataset of these values.

    Datasets often differ in nothing but their values, and xarray takes long, beside a small run, to make an
    index of each coordinate and to align them all: so what has the labels of an earlier one is a copy of it.
    """
    labels = _Labels(variables, {name: array.shape for name, array in values.items()}, coordinates)
    if sum(array.nbytes for _, array, _ in coordinates.values()) > _KNOWN_BYTES:
        empty = _made(labels)
    else:
        empty = _known(labels)
    found = empty.copy(data=values)
    for name, variable in found.variables.items():
        if name not in values and name not in found.xindexes:
            variable.values = coordinates[str(name)][1]  # which the copies would share
    found.attrs = dict(attributes)
    return found


class _Labels:
    """All of a dataset but its values; equal to others that hold the same."""

    def __init__(
        self, variables: Iterable[Variable], shapes: Mapping[str, tuple[int, ...]], coordinates: Coordinates
    ) -> None:
        self.variables, self.shapes, self.coordinates = tuple(variables), shapes, coordinates

    @functools.cached_property
    def _key(self) -> tuple[Any, ...]:
        return (
            *((v.name, *v.dims, v.long_name, v.units) for v in self.variables),
            *self.shapes.items(),
            *((n, dim, x.dtype.str, x.tobytes(), *a.items()) for n, (dim, x, a) in self.coordinates.items()),
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Labels) and self._key == other._key


def _made(labels: _Labels) -> xr.Dataset:
    """A dataset of zeros that take no memory; nobody else has its arrays."""
    zero = np.zeros(())
    data = {
        v.name: (v.dims, np.broadcast_to(zero, labels.shapes[v.name]), schema.attributes(v))
        for v in labels.variables
    }
    coordinates = {name: (dim, array.copy(), a) for name, (dim, array, a) in labels.coordinates.items()}
    return xr.Dataset(data, coords=coordinates)


_known = functools.lru_cache(maxsize=32)(_made)
