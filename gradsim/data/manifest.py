"""What was written to a store, file by file, and whether it is still there."""

from __future__ import annotations

import json
import os
import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gradsim.data.files import contents, replacing, sync_one
from gradsim.errors import StoreError

JOURNAL = "written.jsonl"
"""Of a run that is not complete; it lies beside its data."""

DAMAGED = "if it is damaged, begin again with force=True (--force)"
"""What to do about a file that cannot be relied on."""

_LARGEST = 2**32
"""Bytes of a manifest that is worth reading: hundreds of millions of files."""


@dataclass(frozen=True)
class Entry:
    """A file as it was written: its bytes, and their CRC-32."""

    size: int
    crc: int

    @classmethod
    def of(cls, data: Any) -> Entry:
        """That of some bytes."""
        return cls(memoryview(data).nbytes, zlib.crc32(data))


def mismatch(path: Path, expected: Iterable[Entry], data: Any | None) -> StoreError | None:
    """What is wrong with a file that should be one of these, and is `data`; None if nothing is."""
    if data is None:
        return StoreError(f"{path} is gone, which was written; {DAMAGED}")
    found, expected = Entry.of(data), set(expected)
    if found in expected:
        return None
    if found.size not in {entry.size for entry in expected}:
        return _of_size(path, found.size, sorted({entry.size for entry in expected}))
    return StoreError(f"{path} is not what was written: its checksum differs; {DAMAGED}")


def refuse_lost(folder: Path, entries: Mapping[str, Entry]) -> None:
    """Raise where a file is gone, or is shorter or longer than it was written; none is read."""
    for key, entry in entries.items():
        path = folder / key
        try:
            size = path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"{path} is gone, which was written; {DAMAGED}") from None
        if size != entry.size:
            raise _of_size(path, size, [entry.size])


def _of_size(path: Path, size: int, expected: Iterable[int]) -> StoreError:
    return StoreError(
        f"{path} has {size} bytes, where {' or '.join(map(str, expected))} were written; {DAMAGED}"
    )


class Journal:
    """A line for each file that is about to be written, or removed, in a file that only grows.

    A line is there before its file is, so that after a kill each file is as one of its lines says; and a line
    says when all files were on the disk, from which on none of them may be missing.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._lock = path, threading.Lock()
        if path.exists():
            whole = path.read_bytes().rpartition(b"\n")
            os.truncate(path, len(whole[0] + whole[1]))  # without a line that was cut short

    def add(self, key: str, entry: Entry | None) -> None:
        """Say what is going to be in a file; None if it is going to be removed."""
        self._write([key, entry and entry.size, entry and entry.crc])

    def sync(self) -> None:
        """Say that all files are on the disk, and have that there, too."""
        self._write(None)
        sync_one(self.path)

    def _write(self, line: Any) -> None:
        with self._lock, self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def write_journal(path: Path, entries: Mapping[str, Entry]) -> None:
    """Begin a journal anew where these files are on the disk."""
    lines = [[key, entry.size, entry.crc] for key, entry in entries.items()]
    with replacing(path) as file:
        file.write("".join(json.dumps(line) + "\n" for line in [*lines, None]).encode())


def read_journal(path: Path) -> dict[str, list[Entry | None]]:
    """For each file all that may be in it, what was written last at the end; None if it may be missing."""
    found: dict[str, list[Entry | None]] = {}
    try:
        lines = contents(path, _LARGEST).decode().split("\n")[:-1]
    except FileNotFoundError:
        return {}
    for line in map(json.loads, lines):
        if line is None:
            found = {key: entries[-1:] for key, entries in found.items()}
        else:
            key, size, crc = line
            found.setdefault(key, [None]).append(None if size is None else Entry(size, crc))
    return found


def write_manifest(path: Path, entries: Mapping[str, Entry]) -> int:
    """Keep what is in each file; the checksum of the manifest itself."""
    text = json.dumps({key: [e.size, e.crc] for key, e in sorted(entries.items())}, indent=0).encode()
    with replacing(path) as file:
        file.write(text)
    return zlib.crc32(text)


def read_manifest(path: Path, crc: int) -> dict[str, Entry]:
    """What is in each file.

    Raises
    ------
    StoreError
        It is not the manifest with this checksum.
    """
    text = contents(path, _LARGEST)
    if zlib.crc32(text) != crc:
        raise StoreError(f"{path} is not what was written: its checksum differs; {DAMAGED}")
    return {key: Entry(size, crc) for key, (size, crc) in json.loads(text).items()}
