"""Run folders that links, odd files and a loss of power do no harm to."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import gradsim
from gradsim.data import files, store
from gradsim.errors import StoreError
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_tasks import Adding

X = np.ones((5, 1, 2))


@pytest.fixture
def on_disk(monkeypatch):
    """The files that are on the disk for sure, and what is there each time another takes its place."""
    synced, replaced = set(), []
    fsync, replace = os.fsync, os.replace

    def noted(number):
        synced.add(Path(os.readlink(f"/proc/self/fd/{number}")))
        fsync(number)

    def noting(old, new):
        replaced.append((Path(new), set(synced)))
        replace(old, new)
        synced.discard(Path(new))

    monkeypatch.setattr(os, "fsync", noted)
    monkeypatch.setattr(os, "replace", noting)
    return replaced


def test_all_of_a_run_is_on_the_disk_before_it_is_complete(tmp_path, on_disk):
    run = tmp_path / "run"
    gradsim.simulate(Elman(2, 3), X, store=run)
    path, synced = on_disk[-1]
    assert path == run / "run.json"
    for place in (run / "data.zarr").rglob("*"):
        assert run / "data.partial.zarr" / place.relative_to(run / "data.zarr") in synced
    assert {run, run / "data.partial.zarr"} <= synced


def test_all_chunks_are_on_the_disk_before_a_checkpoint_lets_go_of_their_rows(tmp_path, on_disk):
    run = tmp_path / "run"
    settings = {"updates": 3, "batch": 2, "store": run, "checkpoint_seconds": 0}
    gradsim.train(Elman(2, 3), Adding(length=20), optimizer=SGD(0.1), **settings)
    kept = [synced for path, synced in on_disk if path.name == store.CHECKPOINT]
    assert len(kept) > 3
    for synced in kept[1:]:
        assert any("train_loss" in path.parts and "c" in path.parts for path in synced)


@pytest.mark.parametrize("name", ["run.json", "checkpoint.npz", "data.partial.zarr", "data.zarr"])
def test_a_link_in_the_folder_leads_no_run_astray(name, tmp_path):
    """Whatever is written, replaced or removed is of the run folder."""
    home, run = tmp_path / "home", tmp_path / "run"
    folder = name.endswith(".zarr")
    home.mkdir()
    (home / "thesis").write_text("precious")
    gradsim.simulate(Elman(2, 3), X, store=run)
    record = (run / "run.json").read_text()
    files.remove(run / name)
    (run / name).symlink_to(home if folder else home / "thesis")
    if name == "run.json":
        (home / "thesis").write_text(record)
        with pytest.raises(StoreError, match=r"cannot read .*run\.json"):
            gradsim.open_run(run)
        return
    gradsim.simulate(Elman(2, 3), np.ones((6, 1, 2)), store=run, force=True)
    assert [p.name for p in home.iterdir()] == ["thesis"]
    assert (home / "thesis").read_text() == "precious"
    assert gradsim.open_run(run).sizes["time"] == 7


def test_a_training_does_not_go_on_in_a_folder_elsewhere(tmp_path):
    settings = {"task": Adding(length=20), "optimizer": SGD(0.1), "batch": 2, "store": tmp_path / "run"}
    gradsim.train(Elman(2, 3), updates=3, **settings)
    record = json.loads((tmp_path / "run" / "run.json").read_text())
    (tmp_path / "run" / "run.json").write_text(json.dumps(record | {"status": "running"}))
    os.rename(tmp_path / "run" / "data.zarr", tmp_path / "elsewhere")
    (tmp_path / "run" / "data.partial.zarr").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match=r"data\.partial\.zarr is a link, and no part of this run"):
        gradsim.train(Elman(2, 3), updates=3, resume=True, **settings)


@pytest.mark.parametrize("kind", ["list", "pipe", "large", "deep", "text", "folder"])
def test_a_run_json_of_any_kind_is_named(kind, tmp_path, monkeypatch):
    gradsim.simulate(Elman(2, 3), X, store=tmp_path / "run")
    file = tmp_path / "run" / "run.json"
    whole = file.read_text()
    file.unlink()
    if kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    else:
        monkeypatch.setattr(store, "_LARGEST_RECORD", len(whole) + 10_000)
        texts = {"list": "[]", "large": whole + 20_000 * " ", "deep": 5_000 * "[", "text": "complete"}
        file.write_text(texts[kind])
    with pytest.raises(StoreError, match=r"cannot read .*run\.json|is not a run folder"):
        gradsim.open_run(tmp_path / "run")


def test_what_could_not_be_removed_is_an_error(tmp_path, monkeypatch):
    gradsim.simulate(Elman(2, 3), X, store=tmp_path / "run")

    def held(path, *args, **kwargs):
        raise OSError(16, "Device or resource busy", str(path))

    monkeypatch.setattr(shutil, "rmtree", held)
    with pytest.raises(StoreError, match=r"cannot write .*: Device or resource busy"):
        gradsim.simulate(Elman(2, 3), np.ones((6, 1, 2)), store=tmp_path / "run", force=True)
