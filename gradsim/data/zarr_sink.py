"""Recorded values on their way to the zarr store of a run folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import zarr
import zarr.codecs
from zarr.abc.codec import BytesBytesCodec

from gradsim.contracts.recorder import Variable
from gradsim.data import schema
from gradsim.data.local import WrittenStore
from gradsim.data.manifest import JOURNAL, Journal
from gradsim.data.schema import Frame, dims_of
from gradsim.data.sink import Bounds, Sink
from gradsim.data.store import reading
from gradsim.errors import StoreError
from gradsim.machine.quiet import without_warnings
from gradsim.types import Array

_CHUNK_BYTES = 16 * 2**20

_MATRIX_COLUMNS = ("state_in", "column")
"""The last dim of a variable that holds matrices."""


class ZarrSink(Sink):
    """Writes into a preallocated zarr v3 store; every block is a union of whole chunks.

    A store that is there already is gone on with: it must have been made for the same variables.
    """

    offset = True

    def __init__(
        self,
        frame: Frame,
        variables: Sequence[Variable],
        path: Path,
        chunks: Mapping[str, Mapping[str, int]],
    ) -> None:
        super().__init__(frame, variables)
        self.path = path
        self.store = WrittenStore(path, Journal(path.with_name(JOURNAL)))
        self._beside = " ".join(n for n, dims in dims_of(self.coordinates()).items() if dims != (n,))
        if path.exists():
            with reading(path):
                self.group = zarr.open_group(self.store, mode="r+")
                self.arrays = {name: array for name, array in self.group.arrays() if name in self.variables}
        else:
            self.group = zarr.create_group(self.store, zarr_format=3)
            self.arrays = {}
            self._create(chunks)

    def refuse_other(self) -> None:
        """See that what is there was made for these variables, in these sizes.

        Raises
        ------
        StoreError
            It was not.
        """
        there = {name: array.shape for name, array in self.group.arrays()}
        here = {name: self.shape(name) for name in self.variables}
        here |= {name: values.shape for name, (_, values, _) in self.coordinates().items()}
        if other := [name for name in sorted(there | here) if there.get(name) != here.get(name)]:
            name = other[0]
            raise StoreError(
                f"the data to go on with have {name} of shape {there.get(name)} where this run has "
                f"{here.get(name)}; give the sizes and recorders it was begun with, or begin again with "
                "force=True (--force)"
            )

    def _create(self, chunks: Mapping[str, Mapping[str, int]]) -> None:
        for name, variable in self.variables.items():
            shape = self.shape(name)
            self.arrays[name] = self.group.create_array(
                name,
                shape=shape,
                dtype=self.dtype(name),
                fill_value=np.nan,
                chunks=_chunk_shape(variable.dims, shape, chunks[name], self.dtype(name).itemsize),
                dimension_names=variable.dims,
                attributes=dict(schema.attributes(variable)),
                compressors=_codec(variable.dims),
                config={"write_empty_chunks": True},
            )
        found = self.coordinates()
        dims = dims_of(found)
        for name, (_, values, attrs) in found.items():
            dtype = str if values.dtype.kind == "U" else values.dtype
            array = self.group.create_array(
                name, shape=values.shape, dtype=dtype, dimension_names=dims[name], attributes=dict(attrs)
            )
            array[:] = values

    def open(self, name: str, bounds: Bounds) -> Array:
        return np.full(self.shape(name, bounds), np.nan, dtype=self.dtype(name))

    def close(self, name: str, bounds: Bounds, array: Array) -> None:
        index = tuple(bounds.get(d, slice(None)) for d in self.variables[name].dims)
        with reading(self.path, OSError):  # of a chunk that is written in parts
            self.arrays[name][index] = array

    def sync(self) -> None:
        self.store.sync()

    def read(self, name: str) -> Array:
        with reading(self.path):
            return np.asarray(self.arrays[name][...])

    def shorten(self, lengths: Mapping[str, int]) -> None:
        dims = {n: v.dims for n, v in self.variables.items()}
        dims |= dims_of(self.coordinates())
        for name, names in dims.items():
            array = self.group[name]
            assert isinstance(array, zarr.Array)
            shape = tuple(min(n, lengths.get(d, n)) for d, n in zip(names, array.shape, strict=True))
            if shape != array.shape:
                array.resize(shape)

    def finish(self, attributes: Mapping[str, Any]) -> None:
        """Write the attributes and make the store quick to open."""
        self.group.update_attributes(
            {**attributes, **({"coordinates": self._beside} if self._beside else {})}
        )
        with without_warnings("Consolidated metadata"):
            zarr.consolidate_metadata(self.group.store, path=self.group.path)
        self.sync()


def _codec(dims: tuple[str, ...]) -> BytesBytesCodec:
    """Compressed with a checksum. The digits of whole matrices are noise: for them a checksum alone."""
    if dims and dims[-1] in _MATRIX_COLUMNS:
        return zarr.codecs.Crc32cCodec()
    return zarr.codecs.ZstdCodec(level=1, checksum=True)


def _chunk_shape(
    dims: tuple[str, ...], shape: tuple[int, ...], wanted: Mapping[str, int], itemsize: int
) -> tuple[int, ...]:
    """Chunks as the stage writes them; what it leaves open is cut, first dim first, to a good size."""
    chunk = [max(1, min(wanted.get(d, n), n)) for d, n in zip(dims, shape, strict=True)]
    for i, dim in enumerate(dims):
        if dim not in wanted:
            others = itemsize * int(np.prod(chunk[:i] + chunk[i + 1 :]))
            chunk[i] = max(1, min(chunk[i], _CHUNK_BYTES // max(1, others)))
    return tuple(chunk)
