"""Jobs on threads: each is done once, and the first error ends them all."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import CancelledError
from contextvars import ContextVar
from functools import partial
from pathlib import Path

import pytest
from threadpoolctl import threadpool_info

from gradsim.machine.workers import Workers, one_blas_thread


@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("count", [0, 1, 4, 200])
def test_every_job_is_done_once(threads, count):
    done = []
    Workers(threads).run([partial(done.append, i) for i in range(count)])
    assert sorted(done) == list(range(count))


def test_jobs_run_side_by_side():
    """Each waits for the other, which a single thread could not survive."""
    meeting = threading.Barrier(2)
    Workers(2).run([partial(meeting.wait, timeout=30)] * 2)


@pytest.mark.parametrize("threads", [1, 3])
def test_an_error_comes_out_and_stops_what_has_not_begun(threads):
    done = []

    def fails():
        raise ZeroDivisionError("mine")

    jobs = [fails] * threads + [partial(done.append, i) for i in range(1000)]
    with pytest.raises(ZeroDivisionError, match="mine"):
        Workers(threads).run(jobs)
    assert not done


def test_a_job_can_ask_whether_to_go_on():
    workers = Workers(2)
    failed = threading.Event()

    def fails():
        failed.set()
        raise KeyError("first")

    def waits():
        assert failed.wait(timeout=30)
        while True:
            workers.check()

    workers.check()
    with pytest.raises(KeyError, match="first"):
        workers.run([waits, fails])
    with pytest.raises(CancelledError):
        workers.check()


def test_jobs_may_have_jobs_of_their_own():
    """All threads of the pool wait in a job: what they do themselves nobody else has to take."""
    done = []

    def job():
        Workers(2).run([partial(done.append, i) for i in range(10)])

    Workers(2).run([job] * 4)
    assert sorted(done) == sorted(4 * [*range(10)])


def test_helpers_work_in_the_context_of_who_asks():
    marked, seen, meeting = ContextVar("marked", default=0), [], threading.Barrier(2)
    marked.set(1)

    def job():
        meeting.wait(timeout=30)
        seen.append(marked.get())

    Workers(2).run([job] * 2)
    assert seen == [1, 1]


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]]


def test_matrix_products_stay_on_one_thread_for_a_while():
    before = blas_threads()
    with one_blas_thread():
        assert set(blas_threads()) <= {1}
    assert blas_threads() == before


def test_who_leaves_last_gives_matrix_products_their_threads_back():
    """The first leaves while the second, which has seen one thread only, is still there."""
    before, came, left = blas_threads(), threading.Event(), threading.Event()

    def second():
        with one_blas_thread():
            came.set()
            assert left.wait(timeout=30)
            assert set(blas_threads()) <= {1}

    other = threading.Thread(target=second)
    with one_blas_thread():
        other.start()
        assert came.wait(timeout=30)
    left.set()
    other.join(timeout=30)
    assert blas_threads() == before


ways = [*multiprocessing.get_all_start_methods(), *(["while running"] if hasattr(os, "fork") else [])]


@pytest.mark.parametrize("way", ways)
def test_children_of_a_process_with_threads_run_as_it_does(way):
    script = Path(__file__).with_name("children.py")
    done = subprocess.run(
        [sys.executable, script, way], timeout=120, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
