"""Whether compiled kernels do the work, where a package has them; NumPy does it otherwise.

Kernels need the optional package numba (``pip install gradsim[fast]``). The environment variable
``GRADSIM_COMPILED=0`` keeps to NumPy. Both give the same numbers to rounding.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any

_LIBRARIES = sys.stdlib_module_names | {"llvmlite", "numba", "numpy"}
"""What comes with versions of its own."""


def enabled() -> bool:
    """Whether numba is there and not switched off."""
    return os.environ.get("GRADSIM_COMPILED", "1") != "0" and _installed()


def kernels(module: str) -> ModuleType | None:
    """The module of this name if kernels are enabled, or None. Numba is imported at the first call."""
    return _loaded(module) if enabled() else None


@functools.cache
def _loaded(name: str) -> ModuleType:
    module = importlib.import_module(name)
    for value in vars(module).values():
        if (function := getattr(value, "py_func", None)) is None:
            continue
        if function.__module__ == name:
            renew(value)
        else:
            _loaded(function.__module__)
    return module


def renew(kernel: Any) -> None:
    """Have a kernel that is kept on disk compiled again where something that it is made of has changed.

    Numba looks at the file that a kernel is in, and has no public way to name others.
    """
    file = getattr(getattr(kernel, "_cache", None), "_cache_file", None)
    if file is not None and hasattr(file, "_source_stamp"):
        file._source_stamp = file._source_stamp, made_of(kernel.py_func.__module__)


@functools.cache
def made_of(name: str) -> str:
    """What tells a module, the functions that it takes from others, and its numbers from other versions."""
    found, seen = hashlib.sha256(), set[str]()

    def look(name: str) -> None:
        seen.add(name)
        module = sys.modules[name]
        found.update(Path(str(module.__file__)).read_bytes())
        for key, value in sorted(vars(module).items()):
            if _numbers(value):
                found.update(f"{key} = {value!r}".encode())
            function = getattr(value, "py_func", value)
            other = function.__module__ if isinstance(function, FunctionType) else name
            if other not in seen and other.partition(".")[0] not in _LIBRARIES:
                look(other)

    look(name)
    return found.hexdigest()


def _numbers(value: Any) -> bool:
    """Whether it is a number, or a table of some."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, tuple) else (value,)
    return all(isinstance(x, int | float) for x in parts)


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None
