"""Independent jobs on the threads of a run."""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextlib import AbstractContextManager
from typing import Any

from threadpoolctl import ThreadpoolController

from gradsim.errors import InputError

Job = Callable[[], None]


def available_threads(threads: int | None) -> int:
    """As many as asked for, or as there are cores."""
    if threads is None:
        return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if threads < 1:
        raise InputError(f"threads should be 1 or more (got {threads})")
    return threads


@functools.cache
def _pool(helpers: int) -> ThreadPoolExecutor:
    """Threads that outlive a run: to start them takes as long as a small one."""
    return ThreadPoolExecutor(helpers, thread_name_prefix="gradsim")


@functools.cache
def _blas() -> ThreadpoolController:
    """The thread pools of the libraries that NumPy has loaded; to find them takes a while."""
    return ThreadpoolController()


def one_blas_thread() -> AbstractContextManager[Any]:
    """While it lasts, matrix products stay on the thread that asks for them."""
    limited: AbstractContextManager[Any] = _blas().limit(limits=1)
    return limited


class Workers:
    """The calling thread and its helpers. After an error or Ctrl-C they do nothing more."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._stop = threading.Event()

    def check(self) -> None:
        """Leave a job when another one has failed or Ctrl-C was pressed."""
        if self._stop.is_set():
            raise CancelledError

    def run(self, jobs: Sequence[Job]) -> None:
        """Do all jobs; the first error among them stops the rest and is raised."""
        helpers = min(self.threads, len(jobs)) - 1
        if helpers < 1:
            for job in jobs:
                job()
            return
        errors: list[BaseException] = []
        work = functools.partial(self._work, deque(jobs), errors)
        futures = [_pool(self.threads - 1).submit(work) for _ in range(helpers)]
        work()
        for future in futures:
            future.cancel()  # one that has not begun is not needed
        try:
            wait(futures)
        except BaseException:
            self._stop.set()
            wait(futures)
            raise
        if errors:
            raise errors[0]

    def _work(self, jobs: deque[Job], errors: list[BaseException]) -> None:
        try:
            while jobs and not self._stop.is_set():
                try:
                    job = jobs.popleft()
                except IndexError:  # another thread has taken the last one
                    return
                job()
        except CancelledError:
            pass
        except BaseException as error:
            errors.append(error)
            self._stop.set()
