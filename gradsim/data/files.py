"""Files of a run folder: replaced in one go, on the disk before anybody relies on them, through no links."""

from __future__ import annotations

import os
import secrets
import shutil
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_NEW = ".new"


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """A file to write in: it takes the place of `path` when all of it, and its name, are on the disk.

    A reader sees the old file or the new one, whatever happens. Neither the file at work, whose name nobody
    can guess, nor `path` is followed where it is a link.
    """
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(8)}{_NEW}")
    try:
        with temporary.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_one(path.parent)


def is_unfinished(path: Path) -> bool:
    """Whether this is a file that was at work when its writer was killed."""
    return path.name.endswith(_NEW)


def sync(paths: Iterable[Path], root: Path) -> None:
    """Have files on the disk, with their names and those of the folders from `root` down to them."""
    files = set(paths)
    folders = {folder for path in files for folder in path.parents if folder.is_relative_to(root)}
    for path in (*files, *folders):
        sync_one(path)


def sync_one(path: Path) -> None:
    """Have a file, or the names in a folder, on the disk."""
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def remove(path: Path) -> None:
    """Remove a file, a folder with all that is in it, or a link and nothing that it leads to.

    Raises
    ------
    OSError
        Something of it is still there.
    """
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def plain(path: Path) -> Iterator[BinaryIO]:
    """A plain file to read, and nothing else of its name.

    Raises
    ------
    OSError
        It is none, or cannot be read.
    """
    number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)  # of a pipe nothing is waited for
    with os.fdopen(number, "rb") as file:
        if not stat.S_ISREG(os.fstat(number).st_mode):
            raise OSError(f"{path.name} is no plain file")
        yield file


def contents(path: Path, most: int) -> bytes:
    """The bytes of a plain file.

    Raises
    ------
    OSError
        It is none, or larger than `most` bytes, or cannot be read.
    """
    with plain(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > most:
            raise OSError(f"{path.name} has {size} bytes, where {most} are enough")
        return file.read()
