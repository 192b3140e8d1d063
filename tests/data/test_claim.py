"""One writer at a time, and no folder that stays claimed by one that is gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import numpy as np
import pytest

import gradsim
from gradsim.data import claim
from gradsim.data.claim import Claim
from gradsim.data.zarr_sink import ZarrSink
from gradsim.errors import StoreError
from gradsim_cells import Elman


@pytest.fixture
def other(tmp_path):
    """Another process that has claimed the folder."""
    code = (
        "import sys, pathlib, gradsim.data.claim as c\n"
        f"c.Claim(pathlib.Path({str(tmp_path)!r})); print('claimed', flush=True); sys.stdin.read()"
    )
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as holder:
        assert holder.stdout.readline() == "claimed\n"
        yield holder
        holder.kill()


def test_a_claim_is_a_file_that_is_gone_afterwards(tmp_path):
    held = Claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["claim.1"]
    held.check()
    held.release()
    assert list(tmp_path.iterdir()) == []


def test_the_second_is_told_who_holds_it_since_when(tmp_path, other):
    with pytest.raises(StoreError, match=rf"is being written by process {other.pid} on .* since 20.*; wait"):
        Claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["claim.1"]


def test_a_thread_of_the_same_process_is_a_second_one(tmp_path):
    held = Claim(tmp_path)
    with pytest.raises(StoreError, match=f"is being written by process {os.getpid()}"):
        Claim(tmp_path)
    held.release()


def test_a_claim_of_a_killed_process_is_passed_at_once(tmp_path, other):
    os.kill(other.pid, signal.SIGKILL)
    other.wait()
    held = Claim(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["claim.2"]
    held.release()


def elsewhere(tmp_path, silent):
    """A claim from another machine, which has been silent for some seconds."""
    held = Claim(tmp_path)
    held._ended.set()
    held._beating.join()
    told = json.loads(held.path.read_text())
    held.path.write_text(json.dumps(told | {"host": "node7", "machine": "node7 another start", "process": 1}))
    os.utime(held.path, (time.time() - silent,) * 2)
    return held


def test_a_writer_on_another_machine_is_waited_for_while_it_gives_signs_of_life(tmp_path):
    elsewhere(tmp_path, 31)
    with pytest.raises(StoreError, match=r"by process 1 on node7 .* a sign of life 3. s ago; .* 60 s"):
        Claim(tmp_path)


def test_one_that_was_silent_for_long_loses_the_folder_and_notices(tmp_path):
    lost = elsewhere(tmp_path, 61)
    held = Claim(tmp_path)
    held.check()
    with pytest.raises(StoreError, match="no longer written by this process: its claim there"):
        lost.check()
    held.release()


def test_a_claim_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(claim, "BEAT", 0.01)
    held = Claim(tmp_path)
    os.utime(held.path, (0, 0))
    until = time.monotonic() + 30
    while held.path.stat().st_mtime == 0 and time.monotonic() < until:
        time.sleep(0.01)
    held.release()
    assert not held._beating.is_alive()
    assert time.monotonic() < until


@pytest.mark.parametrize("text", ["", "[]", '{"host": 3}'])
def test_a_claim_that_says_nothing_counts_until_it_is_old(text, tmp_path):
    path = tmp_path / "claim.7"
    path.write_text(text)
    with pytest.raises(StoreError, match=r"by a process that does not say which, claim\.7; wait"):
        Claim(tmp_path)
    os.utime(path, (0, 0))
    held = Claim(tmp_path)
    assert held.path.name == "claim.8"
    held.release()


def take(folder, start, got):
    start.wait()
    with suppress(StoreError):
        got.append(Claim(folder))


def test_of_many_at_the_same_time_one_gets_it(tmp_path):
    """Again and again, over a claim of one that is gone."""
    for _ in range(5):
        elsewhere(tmp_path, 100)
        arguments = tmp_path, threading.Barrier(8), (got := [])
        threads = [threading.Thread(target=take, args=arguments) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) <= 1
        for held in got or [Claim(tmp_path)]:
            held.check()
            held.release()
        assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("force", [False, True])
def test_a_run_does_not_begin_where_another_one_goes_on(force, tmp_path, other):
    with pytest.raises(StoreError, match=f"is being written by process {other.pid}"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path, force=force)
    assert [p.name for p in tmp_path.iterdir()] == ["claim.1"]


def test_a_run_that_has_lost_its_folder_stops_and_leaves_it_alone(tmp_path, monkeypatch):
    run = tmp_path / "run"
    finish = ZarrSink.finish

    def overtaken(self, attributes):
        finish(self, attributes)
        (run / "claim.2").write_text("")

    monkeypatch.setattr(ZarrSink, "finish", overtaken)
    with pytest.raises(StoreError, match="no longer written by this process"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=run)
    assert json.loads((run / "run.json").read_text())["status"] == "running"
    assert sorted(p.name for p in run.iterdir()) == [
        "claim.2",
        "data.partial.zarr",
        "run.json",
        "written.jsonl",
    ]
