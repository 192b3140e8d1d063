"""Independent jobs on the threads of a run."""

from __future__ import annotations

import functools
import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor, wait
from contextvars import copy_context
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
    """The thread pools of the libraries that multiply matrices for NumPy; to find them takes a while."""
    return ThreadpoolController().select(user_api="blas")


def _let_go() -> None:
    """Let other threads change the number: threadpoolctl 3.8 heeds only the thread that did so last."""
    for library in _blas().lib_controllers:
        getattr(library, "clear_controlling_thread", lambda: None)()


class _OneBlasThread:
    """Matrix products stay on the thread that asks for them while anybody wants it so.

    How many threads they take is one number for the whole process: who comes first limits it, and who
    leaves last restores it.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: list[int] = []
        self._limited: Any = None

    def __enter__(self) -> None:
        with self._lock:
            if not self._inside:
                self._limited = _blas().limit(limits=1)
                _let_go()
            self._inside.append(threading.get_ident())

    def __exit__(self, *error: object) -> None:
        with self._lock:
            self._inside.remove(threading.get_ident())
            self._restore()

    def _restore(self) -> None:
        if not self._inside:
            self._limited.restore_original_limits()
            _let_go()

    def before_fork(self) -> None:
        """Nobody is about to change anything."""
        self._lock.acquire()

    def after_fork(self, child: bool) -> None:
        """A child has the thread that forked, and no other one."""
        if child and self._inside:
            self._inside = [thread for thread in self._inside if thread == threading.get_ident()]
            self._restore()
        self._lock.release()


_products = _OneBlasThread()


def one_blas_thread() -> _OneBlasThread:
    """While it lasts, matrix products stay on the thread that asks for them."""
    return _products


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_products.before_fork,
        after_in_parent=functools.partial(_products.after_fork, child=False),
        after_in_child=functools.partial(_products.after_fork, child=True),
    )
    os.register_at_fork(after_in_child=_pool.cache_clear)  # its threads have stayed with the parent


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
        # What is in force here is so for the helpers, too.
        futures = [_pool(self.threads - 1).submit(copy_context().run, work) for _ in range(helpers)]
        work()
        begun = [future for future in futures if not future.cancel()]  # the others are not needed
        try:
            wait(begun)
        except BaseException:
            self._stop.set()
            wait(begun)
            raise
        if errors:
            raise errors[0]

    def in_turn(self, jobs: Sequence[Job]) -> None:
        """Do all jobs, which are parts of one, on the thread that asks."""
        for job in jobs:
            self.check()
            job()

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
