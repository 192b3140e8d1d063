"""What was written is there, or is missed: no damage to a run folder goes unnoticed."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import xarray as xr
from helpers import refused

import gradsim
from gradsim.data.manifest import (
    Entry,
    Journal,
    mismatch,
    read_journal,
    read_manifest,
    refuse_lost,
    write_journal,
    write_manifest,
)
from gradsim.errors import StoreError
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


def test_a_manifest_comes_back_as_it_was(tmp_path):
    entries = {"b": Entry.of(b"two"), "a/c/0": Entry.of(np.arange(3.0))}
    assert entries["a/c/0"].size == 24
    crc = write_manifest(tmp_path / "manifest.json", entries)
    assert read_manifest(tmp_path / "manifest.json", crc) == entries
    with refused(StoreError, "manifest.json is not what was written: its checksum differs"):
        read_manifest(tmp_path / "manifest.json", crc ^ 1)


def test_a_journal_holds_all_that_may_be_in_a_file(tmp_path):
    journal = Journal(tmp_path / "written.jsonl")
    one, two = Entry.of(b"one"), Entry.of(b"other")
    journal.add("x", one)
    journal.add("x", two)
    assert read_journal(journal.path) == {"x": [None, one, two]}  # none of them may be there yet
    journal.sync()
    assert read_journal(journal.path) == {"x": [two]}
    journal.add("x", one)
    journal.add("y", one)
    journal.add("y", None)
    assert read_journal(journal.path) == {"x": [two, one], "y": [None, one, None]}
    assert read_journal(tmp_path / "nothing") == {}


def test_a_journal_begins_anew_with_what_is_there(tmp_path):
    entries = {"x": Entry.of(b"one"), "y": Entry.of(b"other")}
    write_journal(tmp_path / "written.jsonl", entries)
    assert read_journal(tmp_path / "written.jsonl") == {key: [entry] for key, entry in entries.items()}


def test_a_line_that_was_cut_short_does_not_count(tmp_path):
    journal, one = Journal(tmp_path / "written.jsonl"), Entry.of(b"one")
    journal.add("x", one)
    with journal.path.open("a") as file:
        file.write('["x", 3')  # and then it was killed
    assert read_journal(journal.path) == {"x": [None, one]}
    Journal(journal.path).add("y", one)
    assert read_journal(journal.path) == {"x": [None, one], "y": [None, one]}


def test_what_is_wrong_with_a_file_is_said(tmp_path):
    path, expected = tmp_path / "chunk", [Entry.of(b"one"), Entry.of(b"other")]
    assert mismatch(path, expected, b"one") is None
    assert mismatch(path, expected, b"other") is None
    told = {
        None: "is gone, which was written",
        b"ont": "checksum differs",
        b"four": "has 4 bytes, where 3 or 5",
    }
    for data, message in told.items():
        assert f"{path} " in str(mismatch(path, expected, data))
        assert message in str(mismatch(path, expected, data))
    path.write_bytes(b"one")
    refuse_lost(tmp_path, {"chunk": expected[0]})
    with refused(StoreError, "has 3 bytes, where 5 were written"):
        refuse_lost(tmp_path, {"chunk": expected[1]})
    with refused(StoreError, "is gone, which was written"):
        refuse_lost(tmp_path, {"chunk/0": expected[0]})


# Runs.


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A complete run, with several chunks of equal size."""
    path = tmp_path_factory.mktemp("whole") / "run"
    record = ["product_norm", "state", "step_jacobian", "gradient", "loss"]
    x = np.random.default_rng(0).standard_normal((6, 2, 2))
    gradsim.simulate(Elman(2, 3), x, record=record, store=path)
    return path, gradsim.open_run(path).load()


def bit(file, rng):
    data = bytearray(file.read_bytes())
    data[rng.integers(len(data))] ^= 1 << rng.integers(8)
    file.write_bytes(data)


def cut(file, rng):
    data = file.read_bytes()
    file.write_bytes(data[: rng.integers(len(data))])


def longer(file, rng):
    file.write_bytes(file.read_bytes() + rng.bytes(3))


def gone(file, rng):
    file.unlink()


def swapped(file, rng):
    """With another one, of the same size if there is one."""
    run = next(p for p in file.parents if (p / "run.json").exists())
    others = sorted(p for p in run.rglob("*") if p.is_file() and p != file)
    alike = [p for p in others if p.stat().st_size == file.stat().st_size] or others
    other = alike[rng.integers(len(alike))]
    one, two = file.read_bytes(), other.read_bytes()
    file.write_bytes(two)
    other.write_bytes(one)


def trouble(run, reference):
    """What reading a run says of it; nothing if it gives the right numbers."""
    try:
        found = gradsim.open_run(run).load()
    except StoreError as error:
        return str(error)
    xr.testing.assert_identical(found, reference)
    return ""


@pytest.mark.parametrize("damage", [bit, cut, longer, gone, swapped], ids=lambda d: d.__name__)
def test_no_damage_to_any_file_goes_unnoticed(damage, whole, tmp_path):
    path, reference = whole
    rng = np.random.default_rng(1)
    files = sorted(p.relative_to(path) for p in path.rglob("*") if p.is_file())
    for file in files:
        shutil.copytree(path, tmp_path / "run")
        damage(tmp_path / "run" / file, rng)
        message = trouble(tmp_path / "run", reference)
        # Not every letter of run.json counts, metadata are read from one place, and chunks may be the same.
        assert str(tmp_path / "run") in message or file.suffix == ".json" or damage is swapped
        shutil.rmtree(tmp_path / "run")


def test_files_that_are_no_part_of_a_run_are_not_read(whole, tmp_path):
    path, reference = whole
    shutil.copytree(path, tmp_path / "run")
    data = tmp_path / "run" / "data.zarr"
    shutil.copytree(data / "loss", data / "another")
    (data / "loss" / "c" / "7").write_text("something else")
    xr.testing.assert_identical(gradsim.open_run(tmp_path / "run").load(), reference)


def test_a_run_whose_data_are_removed_midway_is_not_complete(tmp_path, monkeypatch):
    from gradsim.data.zarr_sink import ZarrSink

    finish = ZarrSink.finish

    def removed(self, attributes):
        finish(self, attributes)
        shutil.rmtree(self.path / "product_norm")

    monkeypatch.setattr(ZarrSink, "finish", removed)
    with refused(StoreError, "product_norm", "is gone, which was written"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("damage", [bit, cut, gone, "another"], ids=["bit", "cut", "gone", "another"])
def test_a_training_does_not_go_on_over_what_is_damaged(damage, tmp_path):
    run = tmp_path / "run"
    settings = {"task": Adding(length=20), "optimizer": SGD(0.1), "batch": 2, "store": run, "rng": 1}

    def stop(event):
        if event["event"] == "checkpoint" and event["update"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        gradsim.train(Elman(2, 3), updates=6, checkpoint_seconds=0, report=stop, **settings)
    chunks = [p for p in (run / "data.partial.zarr").rglob("*") if "c" in p.parts and p.is_file()]
    if damage == "another":
        (chunks[0].parent / "99").write_bytes(chunks[0].read_bytes())
    else:
        damage(chunks[0], np.random.default_rng(0))
    with refused(StoreError, str(chunks[0].parent), "if it is damaged, begin again"):
        gradsim.train(Elman(2, 3), updates=6, resume=True, **settings)
