"""What takes how long."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from statistics import median


class Clock:
    """The time between two calls of `lap` goes to the name of the later one; from any thread."""

    def __init__(self) -> None:
        self._laps: defaultdict[str, list[float]] = defaultdict(list)
        self._last, self._lock = time.perf_counter(), threading.Lock()

    def lap(self, name: str) -> None:
        """Something has been done."""
        with self._lock:
            now = time.perf_counter()
            self._laps[name].append(now - self._last)
            self._last = now

    def total(self, name: str) -> float:
        """Seconds in all."""
        return sum(self._laps[name])

    def usual(self, name: str) -> float:
        """Seconds that one lap takes; 0 if there was none."""
        return median(self._laps[name] or [0.0])
