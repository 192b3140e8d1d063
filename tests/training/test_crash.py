"""A training that is killed at any moment goes on to the result of one that never was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from byhand import identical

import gradsim
from gradsim.errors import IncompleteRunError

KILLED = -signal.SIGKILL


class Server:
    """The process that forks the trainings to be killed; see `crashing`."""

    def __init__(self, home):
        self.log = home / "stderr"
        environment = {**os.environ, "GRADSIM_COMPILED": "0", "OPENBLAS_NUM_THREADS": "1"}
        script = Path(__file__).with_name("crashing.py")
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(script)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=environment,
            )

    def live(self, setting, folder, **order):
        """One life of a training: its exit status and how long it took."""
        order |= {"setting": setting, "folder": str(folder)}
        print(json.dumps(order), file=self.process.stdin, flush=True)
        answer = json.loads(self.process.stdout.readline() or "{}")
        assert answer.get("status") in (0, KILLED), self.log.read_text()
        return answer["status"], answer["seconds"]

    def close(self):
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    server = Server(tmp_path_factory.mktemp("server"))
    yield server
    server.close()


@pytest.fixture(scope="module")
def lives(server, tmp_path_factory):
    """Of each setting: the result of a training that is left alone, what it calls, and how long it takes."""

    def lived(setting):
        home = tmp_path_factory.mktemp(setting)
        status, seconds = server.live(setting, home / "run", count=str(home / "calls"))
        assert status == 0
        ds = gradsim.open_run(home / "run").load()
        return ds, json.loads((home / "calls").read_text()), seconds

    return {setting: lived(setting) for setting in ("stopped", "whole", "forced")}


def finish(server, setting, folder, reference):
    """Let the training end, and see that nothing is lost and nothing is left over."""
    if (folder / "run.json").exists():
        with pytest.raises(IncompleteRunError):
            gradsim.open_run(folder)
    assert server.live(setting, folder)[0] == 0
    check(folder, reference)


def check(folder, reference):
    """See that a training is complete, and the same as one that was left alone."""
    assert identical(gradsim.open_run(folder), reference)
    assert sorted(p.name for p in folder.iterdir()) == ["data.zarr", "manifest.json", "run.json"]
    assert not list(folder.rglob("*.partial"))


def test_two_trainings_that_are_left_alone_are_the_same(server, lives, tmp_path):
    for setting, (reference, _, _) in lives.items():
        assert server.live(setting, tmp_path / setting)[0] == 0
        check(tmp_path / setting, reference)
    assert lives["stopped"][0].attrs["ended"].startswith("no lower validation loss")
    assert lives["whole"][0].attrs["ended"] == "after all updates"


# One life after the other, and each ends where the next file is at work.
PLACES = [
    ("mkdir run", 1, "before"),
    ("mkdir run", 1, "after"),
    ("write run.json.new", 1, "torn"),
    ("replace run.json", 1, "before"),
    ("replace run.json", 1, "after"),
    ("mkdir data.partial.zarr", 1, "after"),
    ("replace zarr.json", 20, "before"),
    ("write chunk", 3, "torn"),
    ("write checkpoint.npz.new", 1, "torn"),
    ("replace checkpoint.npz", 1, "before"),
    ("replace checkpoint.npz", 1, "after"),
    ("replace checkpoint.npz", 1, "after"),
    ("write checkpoint.npz.new", 1, "torn"),
    ("fsync", 3, "after"),
    ("write chunk", 12, "torn"),
    ("replace chunk", 5, "before"),
    ("replace checkpoint.npz", 2, "before"),
]
ENDS = [
    ("consolidate", 1, "before"),
    ("consolidate", 1, "after"),
    ("replace data.zarr", 1, "before"),
    ("replace data.zarr", 1, "after"),
    ("write run.json.new", 2, "torn"),
    ("replace run.json", 2, "before"),
]


@pytest.mark.parametrize("setting", ["stopped", "whole"])
def test_killed_at_every_kind_of_file(server, lives, setting, tmp_path):
    folder = tmp_path / "run"
    shorten = [("shorten", 1, "before"), ("shorten", 1, "after")] if setting == "stopped" else []
    for place, call, when in PLACES + shorten + ENDS:
        status, _ = server.live(setting, folder, place=place, call=call, when=when)
        assert status == KILLED, (place, call)
    finish(server, setting, folder, lives[setting][0])


def test_what_is_forced_and_drawn_goes_on_from_a_kill(server, lives, tmp_path):
    for call in (2, 3, 5):
        order = {"place": "replace checkpoint.npz", "call": call, "when": "after"}
        assert server.live("forced", tmp_path / "run", **order)[0] == KILLED
    finish(server, "forced", tmp_path / "run", lives["forced"][0])


@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_as_the_checkpoint_is_dropped_the_run_is_complete(server, lives, when, tmp_path):
    order = {"place": "unlink checkpoint.npz", "call": 2, "when": when}
    assert server.live("whole", tmp_path / "run", **order)[0] == KILLED
    assert identical(gradsim.open_run(tmp_path / "run"), lives["whole"][0])
    assert server.live("whole", tmp_path / "run")[0] == 0
    check(tmp_path / "run", lives["whole"][0])


@pytest.mark.parametrize("how", ["at_any_moment", "at_any_file"])
@pytest.mark.parametrize("setting", ["stopped", "whole"])
def test_killed_again_and_again(server, lives, setting, how, tmp_path):
    reference, calls, seconds = lives[setting]
    rng, kills, folders = np.random.default_rng(7), 0, 0
    while kills < 7:
        if how == "at_any_moment":
            order = {"after": rng.uniform(0, seconds / 2)}
        else:
            place = str(rng.choice(list(calls)))
            order = {"place": place, "call": int(rng.integers(calls[place])) + 1}
            order["when"] = str(rng.choice(["before", "after"]))
        folder = tmp_path / str(folders)
        status, _ = server.live(setting, folder, **order)
        kills += status == KILLED
        if status == 0:
            check(folder, reference)
            folders += 1
    if (tmp_path / str(folders)).exists():
        server.live(setting, folder)
        check(folder, reference)
