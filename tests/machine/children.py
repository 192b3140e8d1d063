"""Runs in a process that has run with threads before, and in its children; a script with one argument.

The start method of multiprocessing, or "while running": fork while other threads are in a run.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import threading
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_info

import gradsim
from gradsim.machine.workers import one_blas_thread
from gradsim_cells import LSTM
from gradsim_optimizers import Adam
from gradsim_tasks import Adding


def simulated(seed):
    record = ["product_norm", "lyapunov", "gradient"]
    task = Adding(length=40)
    return gradsim.simulate(LSTM(2, 8), task=task, batch=4, record=record, rng=seed, threads=2)


def trained(folder):
    probe = {"every": 2, "recorders": ["product_norm"]}
    options = {
        "optimizer": Adam(),
        "updates": 3,
        "batch": 4,
        "record": probe,
        "rng": 1,
        "threads": 2,
        "progress": False,
    }
    return gradsim.train(LSTM(2, 8), Adding(length=40), store=folder, **options).load()


def blas_threads():
    return [pool["num_threads"] for pool in threadpool_info() if "numpy" in pool["filepath"]]


def in_children(method, folder):
    expected, learned = [simulated(seed) for seed in range(4)], trained(folder / "mine")
    with multiprocessing.get_context(method).Pool(2) as pool:
        found = pool.map(simulated, range(4), chunksize=1)
        again = pool.map(trained, [folder / "first", folder / "second"], chunksize=1)
    for mine, others in ((expected, found), ([learned] * 2, again)):
        for one, other in zip(mine, others, strict=True):
            one.drop_attrs().identical(other.drop_attrs()) or sys.exit("other numbers in the child")


def while_running():
    """The child neither waits for threads that it does not have nor stays on one thread for them."""
    before, inside, done = blas_threads(), threading.Event(), threading.Event()

    def run():
        with one_blas_thread():
            inside.set()
            done.wait()

    other = threading.Thread(target=run)
    other.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        unlimited = blas_threads() == before
        with one_blas_thread():
            limited = set(blas_threads()) <= {1}
        os._exit(not (unlimited and limited and blas_threads() == before and np.isfinite(simulated(0).loss)))
    _, status = os.waitpid(child, 0)
    with one_blas_thread():
        pass
    limited = set(blas_threads()) <= {1}
    done.set()
    other.join()
    os.waitstatus_to_exitcode(status) == 0 or sys.exit("the child is not as it should be")
    (limited and blas_threads() == before) or sys.exit("the parent is not as it should be")


if __name__ == "__main__":
    if sys.argv[1] == "while running":
        simulated(0)
        while_running()
    else:
        with tempfile.TemporaryDirectory() as home:
            in_children(sys.argv[1], Path(home))
