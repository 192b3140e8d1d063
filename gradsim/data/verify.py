"""Whether a run is still what was written, down to the last bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from gradsim.contracts.validation import checking
from gradsim.data.manifest import mismatch
from gradsim.data.store import complete_data, open_run
from gradsim.errors import StoreError


@checking
def verify(path: str | os.PathLike[str]) -> list[str]:
    """Read every file of a complete run, and say what is wrong with it.

    Parameters
    ----------
    path
        The run folder.

    Returns
    -------
    list of str
        A line for each file that is gone, is not what was written, or is no part of the run; empty if all
        is well.

    Raises
    ------
    IncompleteRunError
        The run did not finish.
    StoreError
        There is no run, a newer gradsim wrote it, or what it says of itself cannot be read.
    """
    return list(_troubles(Path(path)))


def _troubles(path: Path) -> Iterator[str]:
    folder, entries = complete_data(path)
    whole = True
    for key, entry in entries.items():
        place = folder / key
        try:
            data = place.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            data = None
        except OSError as error:
            yield f"{place} cannot be read: {error.strerror}"
            continue
        if wrong := mismatch(place, [entry], data):
            whole = False
            yield str(wrong)
    there = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_symlink() or not p.is_dir()}
    yield from (f"{folder / key} is no part of the run" for key in sorted(there - entries.keys()))
    if whole:
        try:
            open_run(path)
        except StoreError as error:
            yield str(error)
