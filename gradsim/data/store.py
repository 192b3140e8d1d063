"""Runs as they are on disk, to be read: `run.json` (what, how far, with what result) and `data.zarr`."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import xarray as xr

from gradsim.contracts.validation import checking
from gradsim.data import files
from gradsim.data.manifest import DAMAGED, Entry, read_manifest, refuse_lost
from gradsim.data.schema import FORMAT
from gradsim.errors import GradsimError, IncompleteRunError, StoreError, shown

RUN, DATA, PARTIAL, MANIFEST = "run.json", "data.zarr", "data.partial.zarr", "manifest.json"
"""What a run folder holds; the data of a run that is not complete lie in the third."""

CHECKPOINT = "checkpoint.npz"
"""Of a training; gone once it is complete."""

_LARGEST_RECORD = 2**26
"""Bytes of a run.json that is worth reading."""

REASON = "derivatives_because"
"""What is no part of what a run was made with."""

_RECORD = {"format": int, "status": str, "progress": int | float, "manifest": int, "configuration": dict}
"""What run.json holds in any case."""


def configured(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration as it is kept, and its hash."""
    text = json.dumps(configuration, sort_keys=True)
    return {
        "configuration": json.loads(text),
        "configuration_hash": hashlib.sha256(text.encode()).hexdigest(),
    }


def how_far(record: Mapping[str, Any]) -> str:
    """What a run that is not complete says of itself."""
    return f"its status is {record['status']!r} after {record['progress']:.0%}"


def _completed_by(path: str | os.PathLike[str]) -> str:
    if (Path(path) / CHECKPOINT).exists():
        return f"go on with `gradsim resume {path}`"
    return "run it again with --force"


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The contents of run.json."""
    file = Path(path) / RUN
    try:
        with reading(file, FileNotFoundError, NotADirectoryError):
            record = json.loads(files.contents(file, _LARGEST_RECORD))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{path} is not a run folder: it has no run.json") from None
    for key, kind in _RECORD.items():
        found = record.get(key) if isinstance(record, dict) else None
        if not isinstance(found, kind):
            raise StoreError(f"cannot read {file}: its {key} is {shown(found)}; {DAMAGED}")
    if record.get("configuration_hash") != configured(record["configuration"])["configuration_hash"]:
        raise StoreError(
            f"{file} is not what was written: its configuration is not that of its hash; {DAMAGED}"
        )
    return cast(dict[str, Any], record)


@contextmanager
def reading(file: str | os.PathLike[str], *passing: type[OSError]) -> Iterator[None]:
    """Whatever is raised as a file of a run is read, but for what should pass, is a StoreError."""
    try:
        yield
    except Exception as error:  # what libraries raise of torn files is of many kinds
        if isinstance(error, (GradsimError, MemoryError, *passing)):
            raise
        raise StoreError(f"cannot read {file}: {type(error).__name__}: {error}; {DAMAGED}") from error


@checking
def open_run(path: str | os.PathLike[str], *, allow_incomplete: bool = False) -> xr.Dataset:
    """Open the dataset of a run folder; values are read when they are used.

    Parameters
    ----------
    path
        The run folder.
    allow_incomplete
        Open what an unfinished run has written so far; the rest is NaN.

    Raises
    ------
    IncompleteRunError
        The run did not finish.
    StoreError
        There is no run, or a newer gradsim wrote it.
    """
    record = _readable(path)
    if record["status"] == "complete":
        from gradsim.data.local import CheckedStore  # zarr is slow to import

        folder, entries = complete_data(path)
        refuse_lost(folder, entries)
        with reading(folder):
            return _labelled(xr.open_zarr(CheckedStore(folder, entries), chunks=None))
    if not allow_incomplete:
        raise _incomplete(path, record, ", or pass allow_incomplete=True")
    folder = (
        Path(path).absolute() / PARTIAL
    )  # xarray takes a leading ~ for the home folder, and nobody else does
    with reading(folder):
        return _labelled(xr.open_zarr(folder, chunks=None, consolidated=False))


def complete_data(path: str | os.PathLike[str]) -> tuple[Path, dict[str, Entry]]:
    """Where the data of a complete run are, and what was written there.

    Raises
    ------
    IncompleteRunError, StoreError
        As of `open_run`.
    """
    record = _readable(path)
    if record["status"] != "complete":
        raise _incomplete(path, record, "")
    manifest = Path(path).absolute() / MANIFEST
    with reading(manifest):
        return manifest.with_name(DATA), read_manifest(manifest, record["manifest"])


def _readable(path: str | os.PathLike[str]) -> dict[str, Any]:
    record = read_record(path)
    if record["format"] > FORMAT:
        raise StoreError(
            f"{path} was written in format {record['format']} by a newer gradsim; this one reads {FORMAT}"
        )
    return record


def _incomplete(path: str | os.PathLike[str], record: Mapping[str, Any], more: str) -> IncompleteRunError:
    return IncompleteRunError(
        f"the run in {path} is not complete: {how_far(record)}; {_completed_by(path)}{more}"
    )


def _labelled(dataset: xr.Dataset) -> xr.Dataset:
    """NumPy casts its variable-length strings to fixed-length ones only by way of objects."""
    texts = {n: c.astype(object).astype(str) for n, c in dataset.coords.items() if c.dtype.kind in "TO"}
    return dataset.assign_coords(texts)
