"""Whether compiled kernels do the work, where a package has them; NumPy does it otherwise.

Kernels need the optional package numba (``pip install gradsim[fast]``). The environment variable
``GRADSIM_COMPILED=0`` keeps to NumPy. Both give the same numbers to rounding.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
from types import ModuleType


def enabled() -> bool:
    """Whether numba is there and not switched off."""
    return os.environ.get("GRADSIM_COMPILED", "1") != "0" and _installed()


def kernels(module: str) -> ModuleType | None:
    """The module of this name if kernels are enabled, or None. Numba is imported at the first call."""
    return importlib.import_module(module) if enabled() else None


@functools.cache
def _installed() -> bool:
    return importlib.util.find_spec("numba") is not None
