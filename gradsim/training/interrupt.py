"""Ctrl-C between two updates, so that no update is cut in two."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def interruptions() -> Iterator[Callable[[], bool]]:
    """While the block runs, Ctrl-C and termination are noted; what is yielded says whether they were.

    A second one acts at once. Only the main thread hears of them.
    """
    noted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield noted.is_set
        return

    def note(number: int, frame: Any) -> None:
        noted.set()
        signal.signal(number, usual[number])

    usual: dict[int, Any] = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield noted.is_set
    finally:
        for number, handler in usual.items():
            signal.signal(number, handler)
