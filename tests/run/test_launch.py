"""A verb of one's own is a prepared thing; folder, disk, progress and going on come with its launch."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest

import gradsim
from gradsim.contracts.recorder import Variable
from gradsim.data.schema import Frame
from gradsim.data.sink import Block
from gradsim.errors import BudgetError, IncompleteRunError, InputError, StoreError
from gradsim.run.launch import Prepared, launch
from gradsim.run.parameters import LaunchParameters


class Counting(Prepared):
    """Writes 0, 1, 2, ..., and stops once before one of them."""

    kind = "counting"
    provenance = {"counts": 5}  # noqa: RUF012
    problem = None
    work = 5.0

    def __init__(self, stops_before=None):
        self.stops_before, self.running = stops_before, None

    def frame(self):
        return Frame({"update": 5}, np.dtype("float64"), lambda dims: {})

    def variables(self):
        return [Variable("count", ("update",), "how many")]

    def chunks(self):
        return {"count": {"update": 1}}

    def refuse_beyond(self, memory, disk):
        if disk is not None and disk < 40:
            raise BudgetError("too much to count")

    def begun(self, folder):
        return int((folder.path / "at").read_text())

    def execute(self, running, advance):
        self.running = running
        for i in range(running.begun or 0, 5):
            if i == self.stops_before:
                (running.folder / "at").write_text(str(i))
                raise KeyboardInterrupt
            here = {"update": slice(i, i + 1)}
            with Block(running.sink, here) as block:
                block.write("count", here, np.array([i]))
            advance("counting", 1.0)
        return {"ended": "at 5"}


def record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


def test_in_memory_and_in_a_folder_it_is_the_same(tmp_path):
    kept, stored = Counting().run(), Counting().run(store=tmp_path / "run")
    np.testing.assert_array_equal(kept["count"], np.arange(5))
    np.testing.assert_array_equal(stored["count"], np.arange(5))
    assert kept.attrs == stored.attrs == {"ended": "at 5"}
    assert record(tmp_path / "run")["status"] == "complete"
    assert record(tmp_path / "run")["configuration"] == {"counts": 5}


def test_what_is_there_is_replaced_only_by_force(tmp_path):
    Counting().run(store=tmp_path / "run")
    with pytest.raises(StoreError, match="holds a run already"):
        Counting().run(store=tmp_path / "run")
    assert Counting().run(store=tmp_path / "run", force=True).attrs["ended"] == "at 5"


def test_what_was_interrupted_goes_on_where_it_stopped(tmp_path):
    how, resumed = LaunchParameters(store=tmp_path / "run"), Counting()
    with pytest.raises(KeyboardInterrupt):
        launch(Counting(stops_before=3), how)
    assert record(tmp_path / "run")["status"] == "interrupted"
    with pytest.raises(IncompleteRunError):
        gradsim.open_run(tmp_path / "run")
    ds = launch(resumed, how, resume=True)
    assert resumed.running.begun == 3
    np.testing.assert_array_equal(ds["count"], np.arange(5))
    again = Counting()
    assert launch(again, how, resume=True).identical(ds)
    assert again.running is None  # a complete run is opened


def test_where_there_is_none_to_go_on_with_one_begins(tmp_path):
    assert launch(Counting(), LaunchParameters(store=tmp_path / "run"), resume=True).attrs["ended"] == "at 5"
    with pytest.raises(InputError, match="resume: give the run folder"):
        launch(Counting(), LaunchParameters(), resume=True)


def test_what_does_not_fit_is_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsim.run.launch.free_disk", lambda path: 39)
    with pytest.raises(BudgetError, match="too much to count"):
        Counting().run(store=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_run_is_given_what_it_may_use():
    counting = Counting()
    counting.run(threads=3, memory=1e9)
    assert (counting.running.threads, counting.running.memory) == (3, 1e9)
    with pytest.raises(InputError, match="threads should be greater than 0"):
        counting.run(threads=0)
    assert [*inspect.signature(counting.run).parameters] == [
        "threads",
        "memory",
        "progress",
        "store",
        "force",
    ]
