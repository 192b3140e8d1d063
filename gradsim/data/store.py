"""The run folder: `run.json` (what, how far, with what result) and `data.zarr`."""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import xarray as xr

from gradsim.contracts.validation import checking
from gradsim.data import files
from gradsim.data.claim import Claim, is_claim
from gradsim.data.manifest import (
    DAMAGED,
    JOURNAL,
    Entry,
    mismatch,
    read_journal,
    read_manifest,
    refuse_lost,
    write_manifest,
)
from gradsim.data.schema import FORMAT
from gradsim.errors import ChangedRunError, GradsimError, IncompleteRunError, StoreError, shown
from gradsim.machine.disk import human, nearest_folder

_PARTIAL = "data.partial.zarr"
_DATA = "data.zarr"
_MANIFEST = "manifest.json"
_RUN = "run.json"
CHECKPOINT = "checkpoint.npz"
"""Of a training; gone once it is complete."""

_LARGEST_RECORD = 2**26
"""Bytes of a run.json that is worth reading."""

_MADE_WITH = ("code.", "derivatives", "plugins.", "versions.")
"""Parts of a configuration in which a complete run may differ from what would be run now."""
REASON = "derivatives_because"
"""What is no part of what a run was made with."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_DISKS = (*_FULL, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE, errno.EMFILE, errno.ENFILE)
"""What writing to a file that is open may end with; such errors name no file."""

_ELSEWHERE = "choose another with store= or --out"
_RECORD = {"format": int, "status": str, "progress": int | float, "manifest": int, "configuration": dict}
"""What run.json holds in any case."""


class RunFolder:
    """A folder being written. Data lie in `data.partial.zarr` until the run is complete.

    `claim`: that nobody else writes there, while `claimed`.
    """

    claim: Claim | None = None

    def __init__(self, path: Path, configuration: Mapping[str, Any]) -> None:
        self.path = path
        self.record: dict[str, Any] = {
            "format": FORMAT,
            "status": "running",
            "created": _now(),
            "progress": 0.0,
            "manifest": 0,
            **_configured(configuration),
        }

    @property
    def partial(self) -> Path:
        """Where data are while the run goes on."""
        return self.path / _PARTIAL

    def make(self, force: bool) -> None:
        """Make the folder, as far as a run may be written there."""
        check_folder(self.path, force)
        with self._folder_explained():
            self.path.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def claimed(self) -> Iterator[None]:
        """Let nobody else write there while the block runs.

        Raises
        ------
        StoreError
            Somebody does.
        """
        with self._folder_explained():
            self.claim = Claim(self.path)
        try:
            yield
        finally:
            self.claim.release()
            self.claim = None

    def create(self, force: bool) -> None:
        """Begin there; an older run is removed only with `force`, and only what is of the run."""
        self.make(force)
        with self._folder_explained():
            files.remove(self.path / CHECKPOINT)  # it must not be taken for one of this run
            self.update()
            for data in (_DATA, _MANIFEST):
                files.remove(self.path / data)
            self.empty()
            self._clear()

    def empty(self) -> None:
        """Remove what has been written so far."""
        files.remove(self.partial)
        files.remove(self.path / JOURNAL)

    @contextmanager
    def _folder_explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if isinstance(error, StoreError):
                raise
            raise StoreError(
                f"cannot write the run folder {self.path}: {error.strerror}; {_ELSEWHERE}"
            ) from error

    def update(self, **changes: Any) -> None:
        """Replace run.json in one go, so that a reader never sees half of it."""
        self._still_ours()
        self.record.update(changes, updated=_now())
        with files.replacing(self.path / _RUN) as file:
            file.write(json.dumps(self.record, indent=2).encode())

    def _still_ours(self) -> None:
        if self.claim is not None:
            self.claim.check()

    def _clear(self) -> None:
        """Remove what was being written when its writer was killed."""
        for path in (*filter(files.is_unfinished, self.path.iterdir()), *self.partial.rglob("*.partial")):
            files.remove(path)

    def reopen(self, allow_changed: bool) -> bool:
        """Go on with the run that is in the folder; False if it is complete. `update` then says so there.

        Raises
        ------
        ChangedRunError
            It was begun with another configuration or other code, and `allow_changed` is not given; or it
            is complete and was made with another configuration.
        """
        record = read_record(self.path)
        changes = differences(record["configuration"], self.record["configuration"])
        if record["status"] == "complete":
            self._refuse_other([line for line in changes if not line.startswith(_MADE_WITH)])
            self._drop_crutches()  # it ended before this was done
            return False
        if changes and not allow_changed:
            raise ChangedRunError(
                f"the run in {self.path} was begun differently:\n  " + "\n  ".join(changes) + "\n"
                "go on all the same with allow_changed=True (--allow-changed); the result is then neither run"
            )
        configuration = self.record["configuration"]
        self.record = {**record, **_configured(configuration), "status": "running"}
        if changes:
            before, now = record.get("changes"), {"resumed": _now(), "changed": changes}
            self.record["changes"] = [*(before if isinstance(before, list) else []), now]
        if not self.partial.exists() and (self.path / _DATA).exists():  # it ended while it was completed
            os.replace(self.path / _DATA, self.partial)
        if self.partial.is_symlink():
            raise StoreError(f"{self.partial} is a link, and no part of this run; {DAMAGED}")
        self._clear()
        return True

    def check_written(self) -> None:
        """See that all that was written so far is there, and nothing else.

        Raises
        ------
        StoreError
            A file is gone, is not what was written, or is of another run.
        """
        journal = self._journal()
        for path in (p for p in self.partial.rglob("*") if not p.is_dir()):
            key = path.relative_to(self.partial).as_posix()
            if key not in journal:
                raise StoreError(f"{path} is no part of this run; {DAMAGED}")
        for key, entries in journal.items():
            path, expected = self.partial / key, [entry for entry in entries if entry is not None]
            if None in entries and not path.exists():
                continue
            with reading(path):
                data = path.read_bytes() if path.exists() else None
            if wrong := mismatch(path, expected, data):
                raise wrong

    def _journal(self) -> dict[str, list[Entry | None]]:
        with reading(self.path / JOURNAL):
            return read_journal(self.path / JOURNAL)

    def _drop_crutches(self) -> None:
        """Remove what only a run that is not complete needs."""
        for name in (CHECKPOINT, JOURNAL):
            files.remove(self.path / name)

    def _refuse_other(self, changes: list[str]) -> None:
        """Refuse to take a complete run for one with other arguments."""
        if changes:
            raise ChangedRunError(
                f"the run in {self.path} is complete, but was made differently:\n  "
                + "\n  ".join(changes)
                + f"\nopen it with gradsim.open_run, replace it with force=True (--force), or {_ELSEWHERE}"
            )

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Say in run.json how the run ended, whatever ended it."""
        try:
            with self._trouble_explained():
                yield
            entries = {key: found[-1] for key, found in self._journal().items() if found[-1] is not None}
            refuse_lost(self.partial, entries)
        except KeyboardInterrupt:
            self._end("interrupted")
            raise
        except BaseException as error:
            self._end("failed", error=f"{type(error).__name__}: {error}")
            raise
        self._still_ours()
        os.replace(self.partial, self.path / _DATA)
        manifest = write_manifest(self.path / _MANIFEST, entries)
        self.update(status="complete", progress=1.0, manifest=manifest)
        self._drop_crutches()

    def _end(self, status: str, **changes: Any) -> None:
        with suppress(OSError):  # "running" says too that the run is not complete
            self.update(status=status, **changes)

    @contextmanager
    def _trouble_explained(self) -> Iterator[None]:
        """Say what is in the way of writing there, and how to go on."""
        try:
            yield
        except OSError as error:
            if isinstance(error, StoreError) or not self._is_of_the_disk(error):
                raise
            if error.errno in _FULL:
                written = human(sum(f.stat().st_size for f in self.path.rglob("*") if f.is_file()))
                held = f"{self.path} holds {written} of a run that is not complete"
                what = f"the disk is full: {held}; free some space"
            else:
                what = f"cannot write {error.filename or self.path}: {error.strerror}; see to that"
            raise StoreError(f"{what} and {self._how_to_go_on()}, or {_ELSEWHERE}") from error

    def _is_of_the_disk(self, error: OSError) -> bool:
        """Whether an error is about this folder: it names a file there, or none where writing fails so."""
        name = error.filename
        return error.errno in _OF_DISKS if name is None else str(name).startswith(str(self.path))

    def _how_to_go_on(self) -> str:
        if (self.path / CHECKPOINT).exists():
            return f"go on with `gradsim resume {self.path}` (resume=True)"
        return "run it again with force=True (--force)"


def _configured(configuration: Mapping[str, Any]) -> dict[str, Any]:
    text = json.dumps(configuration, sort_keys=True)
    return {
        "configuration": json.loads(text),
        "configuration_hash": hashlib.sha256(text.encode()).hexdigest(),
    }


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """What differs between two configurations, one line each."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = sorted((old.keys() | new.keys()) - {REASON})
        return [
            line
            for key in keys
            for line in differences(old.get(key), new.get(key), f"{where}.{key}" if where else key)
        ]
    return [] if old == new else [f"{where}: {old!r} is now {new!r}"]


def folder_path(path: str | os.PathLike[str]) -> Path:
    """A path where a run folder is or can be made, as far as its name goes.

    Raises
    ------
    StoreError
        No file system has such a path, or nobody knows where it begins.
    """
    try:
        place = Path(path).absolute()
        os.lstat(place)
    except (FileNotFoundError, NotADirectoryError, PermissionError) as error:
        if error.filename is None:
            raise StoreError("the working directory is gone; change to another one") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise StoreError(f"{shown(str(path))} cannot be a run folder: {reason}; {_ELSEWHERE}") from None
    return Path(path)


def check_folder(path: Path, force: bool) -> None:
    """Refuse a folder that a run cannot be written into; nothing is changed.

    Raises
    ------
    IncompleteRunError
        A run that did not finish is there, and `force` is not given.
    StoreError
        Anything else is there, or nothing can be.
    """
    if path.exists():
        _check_present(path, force)
    place = nearest_folder(path)
    if not place.is_dir():
        raise StoreError(f"cannot write the run folder {path}: {place} is a file; {_ELSEWHERE}")
    if not os.access(place, os.W_OK | os.X_OK):
        raise StoreError(f"cannot write the run folder {path}: {place} is not writable; {_ELSEWHERE}")


def _check_present(path: Path, force: bool) -> None:
    if path.is_dir() and all(
        files.is_unfinished(p) or is_claim(p) for p in path.iterdir()
    ):  # no run got further
        return
    if not (path / _RUN).is_file():
        raise StoreError(f"{path} exists and is not a run folder; {_ELSEWHERE}")
    if force:
        return
    record = read_record(path)
    fix = f"pass force=True (--force) to replace it, or {_ELSEWHERE}"
    if record["status"] != "complete":
        if (path / CHECKPOINT).exists():
            fix = f"go on with `gradsim resume {path}` (resume=True), {fix}"
        raise IncompleteRunError(f"{path} holds a run that is not complete: {_how_far(record)}; {fix}")
    raise StoreError(f"{path} holds a run already; {fix}")


def _how_far(record: Mapping[str, Any]) -> str:
    return f"its status is {record['status']!r} after {record['progress']:.0%}"


def _completed_by(path: str | os.PathLike[str]) -> str:
    if (Path(path) / CHECKPOINT).exists():
        return f"go on with `gradsim resume {path}`"
    return "run it again with --force"


def read_record(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The contents of run.json."""
    file = Path(path) / _RUN
    try:
        with reading(file, FileNotFoundError, NotADirectoryError):
            record = json.loads(files.contents(file, _LARGEST_RECORD))
    except (FileNotFoundError, NotADirectoryError):
        raise StoreError(f"{path} is not a run folder: it has no run.json") from None
    for key, kind in _RECORD.items():
        found = record.get(key) if isinstance(record, dict) else None
        if not isinstance(found, kind):
            raise StoreError(f"cannot read {file}: its {key} is {shown(found)}; {DAMAGED}")
    if record.get("configuration_hash") != _configured(record["configuration"])["configuration_hash"]:
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
        Path(path).absolute() / _PARTIAL
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
    manifest = Path(path).absolute() / _MANIFEST
    with reading(manifest):
        return manifest.with_name(_DATA), read_manifest(manifest, record["manifest"])


def _readable(path: str | os.PathLike[str]) -> dict[str, Any]:
    record = read_record(path)
    if record["format"] > FORMAT:
        raise StoreError(
            f"{path} was written in format {record['format']} by a newer gradsim; this one reads {FORMAT}"
        )
    return record


def _incomplete(path: str | os.PathLike[str], record: Mapping[str, Any], more: str) -> IncompleteRunError:
    return IncompleteRunError(
        f"the run in {path} is not complete: {_how_far(record)}; {_completed_by(path)}{more}"
    )


def _labelled(dataset: xr.Dataset) -> xr.Dataset:
    """NumPy casts its variable-length strings to fixed-length ones only by way of objects."""
    texts = {n: c.astype(object).astype(str) for n, c in dataset.coords.items() if c.dtype.kind in "TO"}
    return dataset.assign_coords(texts)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
