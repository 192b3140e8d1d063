"""How far a run is: a bar with an estimate on a terminal, silence elsewhere."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Advance = Callable[[str, float], None]
"""advance(stage, work): this much more is done, at this stage. Called from any thread."""


def unseen(stage: str, work: float) -> None:
    """Advance without being seen."""


@contextmanager
def progress(
    total: Callable[[], float], show: bool | None, note: Callable[[float], None] | None
) -> Iterator[Advance]:
    """Show progress while the block runs.

    Parameters
    ----------
    total
        All the work that there is; not asked for where nobody sees it.
    show
        True or False; None shows only on a terminal.
    note
        Called with the fraction done, at most once a second.
    """
    bar = _bar() if (sys.stderr.isatty() if show is None else show) else None
    if bar is None and note is None:
        yield unseen
        return
    done, last, whole = 0.0, time.monotonic(), total()
    lock = threading.Lock()
    task = bar.add_task("starting", total=whole) if bar else None

    def advance(stage: str, work: float) -> None:
        nonlocal done, last
        with lock:
            done += work
            if bar is not None and task is not None:
                bar.update(task, description=stage, completed=done)
            if note is not None and time.monotonic() - last > 1:
                last = time.monotonic()
                note(min(done / whole, 1.0) if whole else 1.0)

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
