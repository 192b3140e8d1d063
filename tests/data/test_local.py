"""Stores that know what they have written, and that check what they read."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from gradsim.data.local import CheckedStore, WrittenStore
from gradsim.data.manifest import Journal, read_journal
from gradsim.errors import StoreError


@pytest.fixture
def written(tmp_path):
    """A store with an array of 6 numbers in 3 chunks."""
    store = WrittenStore(tmp_path / "data.zarr", Journal(tmp_path / "written.jsonl"))
    array = zarr.create_group(store, zarr_format=3).create_array("x", shape=6, chunks=2, dtype="f8")
    array[:] = np.arange(6.0)
    return store


def entries(store):
    return {key: found[-1] for key, found in read_journal(store.journal.path).items() if found[-1]}


def checked(store):
    return CheckedStore(store.root, entries(store))


def test_all_that_is_written_is_in_the_journal(written):
    files = {p.relative_to(written.root).as_posix() for p in written.root.rglob("*") if p.is_file()}
    assert entries(written).keys() == files
    array = zarr.open_group(written, mode="r+")["x"]
    array[0] = 7.0
    array.resize((4,))
    found = read_journal(written.journal.path)
    assert len(found["x/c/0"]) == 3
    assert found["x/c/2"][-1] is None
    np.testing.assert_array_equal(zarr.open_group(checked(written), mode="r")["x"][:], [7, 1, 2, 3])


def test_what_was_written_is_on_the_disk_once_asked_for(written, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda n: (synced.append(Path(os.readlink(f"/proc/self/fd/{n}"))), fsync(n))
    )
    written.sync()
    assert {written.root / key for key in entries(written)} < set(synced)
    assert {written.root, written.root / "x" / "c", written.journal.path} < set(synced)
    synced.clear()
    written.sync()
    assert synced == [written.journal.path]


def test_what_was_written_is_read(written):
    store = checked(written)
    for readable in (store, pickle.loads(pickle.dumps(store))):
        np.testing.assert_array_equal(zarr.open_group(readable, mode="r")["x"][:], np.arange(6.0))
        assert "y" not in zarr.open_group(readable, mode="r")


@pytest.mark.parametrize("damage", ["gone", "changed"])
def test_a_chunk_that_is_not_what_was_written_is_an_error_when_it_is_read(damage, written):
    array, chunk = zarr.open_group(checked(written), mode="r")["x"], written.root / "x" / "c" / "1"
    if damage == "gone":
        chunk.unlink()
    else:
        chunk.write_bytes((written.root / "x" / "c" / "2").read_bytes())
    np.testing.assert_array_equal(array[:2], [0, 1])
    with pytest.raises(StoreError, match=f"{chunk} is (gone|not what was written)"):
        array[:]


def test_nothing_is_written_to_what_is_there_to_be_read(written):
    with pytest.raises(ValueError, match="read-only"):
        zarr.open_group(checked(written), mode="r+")["x"][0] = 1.0
