"""Where runs go, and whether they fit together."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import click
import numpy as np
import pytest

import gradsim
from gradsim.cli.folders import check_folders, check_room, run_folders
from gradsim.errors import BudgetError, StoreError
from gradsim.machine import disk
from gradsim_cells import Elman

RUNS = [SimpleNamespace(name="mine", label="a"), SimpleNamespace(name="mine-b", label="b")]


@pytest.mark.parametrize(
    ("out", "found"),
    [
        (None, ["runs/mine", "runs/mine-b"]),
        ("here", ["here", "here-b"]),
        ("deep/here", ["deep/here", "deep/here-b"]),
    ],
)
def test_folders_lie_side_by_side(out, found):
    assert run_folders(RUNS, out and Path(out)) == [Path(f) for f in found]


def test_the_current_folder_has_a_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run_folders(RUNS, Path(".")) == [tmp_path, tmp_path.with_name(f"{tmp_path.name}-b")]


def test_folders_are_kept_unless_they_are_gone_on_with(tmp_path):
    gradsim.simulate(Elman(1, 1), np.zeros((1, 1, 1)), record=["state"], store=tmp_path / "there")
    both = [tmp_path / "new", tmp_path / "there"]
    check_folders(both[:1], force=False, resume=False)
    check_folders(both, force=False, resume=True)
    with pytest.raises(StoreError, match="there holds a run already"):
        check_folders(both, force=False, resume=False)
    with pytest.raises(click.UsageError, match="give one of them"):
        check_folders(both, force=True, resume=True)


def test_runs_have_to_fit_together(tmp_path, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=10_000))
    asked = []
    runs = [
        SimpleNamespace(sizes=lambda n=n: {"a": n, "b": 1_000}, refuse_beyond=lambda *by: asked.append(by))
        for n in (3_000, 5_000)
    ]
    places = [tmp_path / "not" / "yet", tmp_path / "there"]
    check_room(places, runs, 1e9)
    assert asked == [(1e9, 10_000)] * 2
    with pytest.raises(BudgetError, match="these runs write 14 kB together and 10 kB of disk is free"):
        check_room(places, [*runs, runs[0]], None)
