"""The run folder: `run.json` (what, how far, with what result) and `data.zarr`."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from gradsim.data.schema import FORMAT
from gradsim.errors import IncompleteRunError, StoreError

_PARTIAL = "data.partial.zarr"
_DATA = "data.zarr"


class RunFolder:
    """A folder being written. Data lie in `data.partial.zarr` until the run is complete."""

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self.path = path
        text = json.dumps(configuration, sort_keys=True)
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "created": _now(),
            "progress": 0.0,
            "configuration": dict(configuration),
            "configuration_hash": hashlib.sha256(text.encode()).hexdigest(),
        }

    @property
    def partial(self) -> Path:
        """Where data are while the run goes on."""
        return self.path / _PARTIAL

    def create(self, force: bool) -> None:
        """Make the folder; an older run there is removed only with `force`."""
        if self.path.exists():
            self._clear(force)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            self.update()
        except OSError as error:
            raise StoreError(
                f"cannot write the run folder {self.path}: {error.strerror}; choose another with store= "
                "or --out"
            ) from error

    def _clear(self, force: bool) -> None:
        if self.path.is_dir() and not any(self.path.iterdir()):
            return
        if not (self.path / "run.json").is_file():
            raise StoreError(
                f"{self.path} exists and is not a run folder; choose another with store= or --out"
            )
        if not force:
            raise StoreError(
                f"{self.path} is there already; pass force=True (--force) to replace it, or choose "
                "another with store= or --out"
            )
        shutil.rmtree(self.path)

    def update(self, **changes: Any) -> None:
        """Replace run.json in one go, so that a reader never sees half of it."""
        self.record.update(changes, updated=_now())
        temporary = self.path / "run.json.new"
        with temporary.open("w") as file:
            json.dump(self.record, file, indent=2)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, self.path / "run.json")

    @contextmanager
    def writing(self, force: bool) -> Iterator[None]:
        """Create the folder, and say in run.json how the run ended, whatever ended it."""
        self.create(force)
        try:
            yield
        except KeyboardInterrupt:
            self.update(status="interrupted")
            raise
        except BaseException as error:
            self.update(status="failed", error=f"{type(error).__name__}: {error}")
            raise
        os.replace(self.partial, self.path / _DATA)
        self.update(status="complete", progress=1.0)


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The contents of run.json."""
    file = Path(path) / "run.json"
    try:
        return json.loads(file.read_text())  # type: ignore[no-any-return]
    except FileNotFoundError:
        raise StoreError(f"{path} is not a run folder: it has no run.json") from None
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {file}: {error}") from error


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
    record = read_record(path)
    if record["format"] > FORMAT:
        raise StoreError(
            f"{path} was written in format {record['format']} by a newer gradsim; this one reads {FORMAT}"
        )
    complete = record["status"] == "complete"
    if not complete and not allow_incomplete:
        raise IncompleteRunError(
            f"the run in {path} is not complete: its status is {record['status']!r} after "
            f"{record['progress']:.0%}; run it again with --force, or pass allow_incomplete=True"
        )
    folder = Path(path) / (_DATA if complete else _PARTIAL)
    dataset = xr.open_zarr(folder, chunks=None, consolidated=complete)
    # NumPy casts its variable-length strings to fixed-length ones only by way of objects.
    texts = {n: c.astype(object).astype(str) for n, c in dataset.coords.items() if c.dtype.kind in "TO"}
    labelled: xr.Dataset = dataset.assign_coords(texts)
    return labelled


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
