"""Room on the disk, and sizes for people."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from gradsim.errors import StoreError


def human(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


def nearest_folder(path: str | os.PathLike[str]) -> Path:
    """The folder itself, or the nearest one above that exists."""
    try:
        place = Path(path).absolute()
    except FileNotFoundError:
        raise StoreError("the current folder has been deleted; go to another one") from None
    while not place.exists():
        place = place.parent
    return place


def free_disk(path: str | os.PathLike[str]) -> int:
    """The bytes that are free where a folder is or would be."""
    return shutil.disk_usage(nearest_folder(path)).free
