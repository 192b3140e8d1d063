"""Warnings that are expected, kept from everybody for a while."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.RLock()


@contextmanager
def without_warnings(message: str = "", category: type[Warning] = Warning) -> Iterator[None]:
    """Warnings of this category that begin with this message are not shown while it lasts.

    Python has one list of filters for all threads, of which each block puts back what it found: only one
    thread at a time may be in such a block, else what the first one added would stay.
    """
    with _lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message, category)
        yield


def _forked() -> None:
    global _lock
    _lock = threading.RLock()  # the thread that held it is not in the child


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
