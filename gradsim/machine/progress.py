"""How far a run is: a bar with an estimate on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Advance = Callable[[str, float], None]
"""advance(stage, flops): this much work of a stage is done. Called from any thread."""


def unseen(stage: str, flops: float) -> None:
    """Advance without being seen."""


@contextmanager
def progress(total: float, show: bool | None, note: Callable[[float], None]) -> Iterator[Advance]:
    """Show progress while the block runs.

    Parameters
    ----------
    total
        The floating-point operations of the run.
    show
        True or False; None shows only on a terminal.
    note
        Called with the fraction done, at most once a second.
    """
    done, last = 0.0, time.monotonic()
    lock = threading.Lock()
    bar = _bar() if (sys.stderr.isatty() if show is None else show) else None
    task = bar.add_task("starting", total=total) if bar else None

    def advance(stage: str, flops: float) -> None:
        nonlocal done, last
        with lock:
            done += flops
            if bar is not None and task is not None:
                bar.update(task, description=stage, completed=done)
            if time.monotonic() - last > 1:
                last = time.monotonic()
                note(min(done / total, 1.0) if total else 1.0)

    if bar is None:
        yield advance
    else:
        with bar:
            yield advance


def _bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    columns = TextColumn("{task.description:<16}"), BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    return Progress(*columns, console=Console(stderr=True), transient=True)
