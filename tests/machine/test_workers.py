"""Jobs on threads: each is done once, and the first error ends them all."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError
from functools import partial

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


def test_matrix_products_stay_on_one_thread_for_a_while():
    def threads():
        return [pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]]

    before = threads()
    with one_blas_thread():
        assert set(threads()) <= {1}
    assert threads() == before
