"""The run folder while a run is written into it."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from gradsim.data import files
from gradsim.data.claim import Claim, is_claim
from gradsim.data.manifest import (
    DAMAGED,
    JOURNAL,
    Entry,
    mismatch,
    read_journal,
    refuse_lost,
    write_journal,
    write_manifest,
)
from gradsim.data.schema import FORMAT
from gradsim.data.store import (
    CHECKPOINT,
    DATA,
    MANIFEST,
    PARTIAL,
    REASON,
    RUN,
    configured,
    how_far,
    read_record,
    reading,
)
from gradsim.errors import ChangedRunError, IncompleteRunError, StoreError, shown
from gradsim.machine.disk import human, nearest_folder

_MADE_WITH = ("code.", "derivatives", "plugins.", "versions.")
"""Parts of a configuration in which a complete run may differ from what would be run now."""

_FULL = (errno.ENOSPC, errno.EDQUOT)
_OF_DISKS = (*_FULL, errno.EIO, errno.EROFS, errno.EFBIG, errno.ESTALE, errno.EMFILE, errno.ENFILE)
"""What writing to a file that is open may end with; such errors name no file."""

_ELSEWHERE = "choose another with store= or --out"


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
            **configured(configuration),
        }

    @property
    def partial(self) -> Path:
        """Where data are while the run goes on."""
        return self.path / PARTIAL

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
            for data in (DATA, MANIFEST):
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
        with files.replacing(self.path / RUN) as file:
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
        self.record = {**record, **configured(configuration), "status": "running"}
        if changes:
            before, now = record.get("changes"), {"resumed": _now(), "changed": changes}
            self.record["changes"] = [*(before if isinstance(before, list) else []), now]
        if not self.partial.exists() and (self.path / DATA).exists():  # it ended while it was completed
            os.replace(self.path / DATA, self.partial)
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
        there = {}
        for key, entries in journal.items():
            path, expected = self.partial / key, [entry for entry in entries if entry is not None]
            if None in entries and not path.exists():
                continue
            with reading(path):
                data = path.read_bytes() if path.exists() else None
            if wrong := mismatch(path, expected, data):
                raise wrong
            there[key] = Entry.of(data)
        # What may have been written is settled: nothing that was not will be missed from now on.
        files.sync((self.partial / key for key in there), self.partial)
        write_journal(self.path / JOURNAL, there)

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
        os.replace(self.partial, self.path / DATA)
        manifest = write_manifest(self.path / MANIFEST, entries)
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
    if not (path / RUN).is_file():
        raise StoreError(f"{path} exists and is not a run folder; {_ELSEWHERE}")
    if force:
        return
    record = read_record(path)
    fix = f"pass force=True (--force) to replace it, or {_ELSEWHERE}"
    if record["status"] != "complete":
        if (path / CHECKPOINT).exists():
            fix = f"go on with `gradsim resume {path}` (resume=True), {fix}"
        raise IncompleteRunError(f"{path} holds a run that is not complete: {how_far(record)}; {fix}")
    raise StoreError(f"{path} holds a run already; {fix}")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
