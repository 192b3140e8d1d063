"""Memory that is freed and soon needed again.

A run makes arrays of the same sizes again and again. Returned to the system and taken from it anew, their
pages cost more than a small run computes; so what is freed stays with the process.
"""

from __future__ import annotations

import ctypes
import functools

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt in glibc."""

_KEPT_BYTES = 256 * 2**20
_LARGEST_BYTES = 32 * 2**20
"""The most that mallopt takes: larger arrays have pages of their own."""


@functools.cache
def keep_freed_memory() -> bool:
    """Ask the C library, once a process, to keep freed memory; False where it cannot be asked."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc
        return False
    return bool(mallopt(_MMAP_THRESHOLD, _LARGEST_BYTES) and mallopt(_TRIM_THRESHOLD, _KEPT_BYTES))
