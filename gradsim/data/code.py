"""Fingerprints of the code that made a run."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Iterable
from pathlib import Path

from gradsim.plugin import Plugin


def fingerprints(plugins: Iterable[Plugin]) -> dict[str, str]:
    """SHA-256 of gradsim and of the package (or script) that each plugin comes from, by name."""
    packages = {"gradsim": _package("gradsim")}
    for plugin in plugins:
        top = type(plugin).__module__.partition(".")[0]
        packages[top] = _package(top) or _source(type(plugin))
    return packages


@functools.cache
def _package(name: str) -> str:
    """Of all its Python files; empty for what is no package."""
    places = getattr(sys.modules[name], "__path__", ())
    files = sorted(file for place in places for file in Path(place).rglob("*.py"))
    return _digest(b"\0".join(file.read_bytes() for file in files)) if files else ""


def _source(cls: type) -> str:
    try:
        return _digest(inspect.getsource(cls).encode())
    except (OSError, TypeError):  # typed at a prompt
        return "unknown"


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
