"""Values in memory: blocks that fill a whole, gaps, and ends that are cut off."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim import Variable
from gradsim.data.schema import frame
from gradsim.data.sink import Block, MemorySink
from gradsim_cells import Elman

STATE = Variable("state", ("time", "batch"), "a state")
STEPS = Variable("steps", ("step",), "numbers of steps", dtype="float64")


@pytest.fixture
def sink():
    problem = gradsim.prepare(Elman(2, 4), np.zeros((9, 3, 2)), dtype="float32").plan.problem
    return MemorySink(frame(problem), [STATE, STEPS])


def test_blocks_fill_the_whole(sink):
    whole = np.arange(30.0, dtype=np.float32).reshape(10, 3)
    for times in (slice(0, 4), slice(4, 10)):
        with Block(sink, {"time": times}) as block:
            block.write("state", {"time": times, "batch": 1}, whole[times, 1])
            block.write("state", {"time": times, "batch": np.array([0, 2])}, whole[times][:, [0, 2]])
    np.testing.assert_array_equal(sink.read("state"), whole)


def test_what_is_never_written_is_nan(sink):
    with Block(sink, {}) as block:
        block.write("steps", {"step": slice(2, 4)}, np.array([3.0, 4.0]))
    ds = sink.dataset({"title": "mine"})
    np.testing.assert_array_equal(np.isfinite(ds.steps), [0, 0, 1, 1, 0, 0, 0, 0, 0])
    assert np.isnan(ds.state).all()
    assert (ds.state.dtype, ds.steps.dtype) == ("float32", "float64")
    assert ds.attrs == {"title": "mine"}


def test_shapes_within_bounds(sink):
    assert sink.shape("state") == (10, 3)
    assert sink.shape("state", {"time": slice(7, None), "batch": slice(0, 1)}) == (3, 1)


def test_an_array_that_is_put_is_kept_or_copied(sink):
    own = np.arange(9.0)
    sink.put("steps", own)
    assert sink.read("steps") is own
    sink.put("state", np.ones((10, 3)))  # of another dtype
    assert sink.read("state").dtype == np.float32
    view = np.arange(20.0)[:9]
    sink.put("steps", view)
    assert not np.shares_memory(sink.read("steps"), view)
    np.testing.assert_array_equal(sink.read("steps"), view)


def test_ends_are_cut_off(sink):
    sink.put("steps", np.arange(9.0))
    sink.shorten({"step": 4, "update": 2})
    ds = sink.dataset({})
    np.testing.assert_array_equal(ds.steps, np.arange(4.0))
    assert ds.sizes["time"] == 10
