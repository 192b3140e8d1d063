"""Fingerprints of the code that made a run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from gradsim.contracts.modules import imports_beside
from gradsim.contracts.plugin import Plugin

_ASIDE = ("analysis", "cli", "plot", "testing")
"""Parts of gradsim that make no number of a run."""


def fingerprints(plugins: Iterable[Plugin]) -> dict[str, str]:
    """SHA-256 of gradsim, of the package or file that each plugin comes from, or of the class in a script."""
    found = {"gradsim": _package("gradsim")}
    for plugin in _all(plugins):
        cls = type(plugin)
        if cls.file:
            found[cls.file] = _file(Path(cls.file.rpartition(":")[0]))
            continue
        top = cls.__module__.partition(".")[0]
        package = _package(top)
        found[top if package else f"{top}.{cls.__qualname__}"] = package or _source(cls)
    return found


def _all(plugins: Iterable[Plugin]) -> Iterator[Plugin]:
    """These and the ones among their parameters."""
    for plugin in plugins:
        yield plugin
        yield from _all(plugin.inside)


@functools.cache
def _package(name: str) -> str:
    """Of its Python files that make numbers; empty for what is no package."""
    places = getattr(sys.modules[name], "__path__", ())
    files = sorted(
        file
        for place in places
        for file in Path(place).rglob("*.py")
        if name != "gradsim" or file.relative_to(place).parts[0] not in _ASIDE
    )
    return _digest(b"\0".join(file.read_bytes() for file in files)) if files else ""


def _file(path: Path) -> str:
    """Of a file, with those beside it that it imports."""
    found, left = set[Path](), [path]
    while left:
        file = left.pop()
        if file not in found:
            found.add(file)
            left += imports_beside(file).values()
    return _digest(b"\0".join(file.read_bytes() for file in sorted(found)))


def _source(cls: type) -> str:
    try:
        return _digest(inspect.getsource(cls).encode())
    except (OSError, TypeError):  # typed at a prompt
        return "unknown"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
