"""Disks that fail midway: the error says where, and how the run goes on."""

from __future__ import annotations

import errno
import json
import os
import shutil

import numpy as np
import pytest
from helpers import refused

import gradsim
from gradsim.data.local import WrittenStore
from gradsim.errors import StoreError
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_tasks import Adding

ERRORS = ("EIO", "EROFS", "EACCES", "EPERM", "EFBIG", "ENOENT", "ENOTDIR", "ESTALE", "EMFILE", "ENFILE")
FULL = ("ENOSPC", "EDQUOT")


def failing(code, *place):
    number = getattr(errno, code)

    async def fails(self, key, value):
        raise OSError(number, os.strerror(number), *(str(self.root / key) for _ in place))

    return fails


@pytest.mark.parametrize("code", [*ERRORS, *FULL])
def test_a_simulation_that_cannot_write_says_what_is_in_the_way(code, tmp_path, monkeypatch):
    monkeypatch.setattr(WrittenStore, "set", failing(code, "named"))
    told = "the disk is full: " if code in FULL else f"zarr.json: {os.strerror(getattr(errno, code))}; see"
    with refused(
        StoreError, told, str(tmp_path / "run"), "run it again with force=True (--force), or choose"
    ):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    assert json.loads((tmp_path / "run" / "run.json").read_text())["status"] == "failed"


@pytest.mark.parametrize("code", ["EIO", "EROFS", "EFBIG", "ESTALE", "EMFILE", "ENFILE", *FULL])
def test_writing_to_an_open_file_that_fails_names_the_folder(code, tmp_path, monkeypatch):
    monkeypatch.setattr(WrittenStore, "set", failing(code))
    with refused(StoreError, str(tmp_path / "run"), "run it again with force=True"):
        gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")


def trained(run, **how):
    settings = {"optimizer": SGD(0.1), "batch": 2, "updates": 6, "rng": 1, "checkpoint_seconds": 0}
    return gradsim.train(Elman(2, 3), Adding(length=20), store=run, **settings, **how)


@pytest.mark.parametrize("code", ["EIO", "EROFS", "EFBIG", "ESTALE", *FULL])
def test_a_training_with_a_checkpoint_is_told_to_go_on(code, tmp_path, monkeypatch):
    run, savez, number = tmp_path / "run", np.savez, getattr(errno, code)

    def fails(file, **arrays):
        if arrays["update"] == 3:
            raise OSError(number, os.strerror(number))
        savez(file, **arrays)

    with monkeypatch.context() as patch:
        patch.setattr(np, "savez", fails)
        with refused(StoreError, f"go on with `gradsim resume {run}` (resume=True)"):
            trained(run)
    trained(tmp_path / "other")
    found = trained(run, resume=True)
    np.testing.assert_array_equal(found.trained_U, gradsim.open_run(tmp_path / "other").trained_U)


def test_a_folder_that_is_removed_midway_is_missed(tmp_path):
    run = tmp_path / "run"

    def remove(event):
        if event["event"] == "update" and event["update"] == 3:
            shutil.rmtree(run)

    with refused(StoreError, str(run)):
        trained(run, report=remove)


def test_an_error_of_something_else_stays_what_it_is(tmp_path):
    def asked(event):
        raise OSError(errno.EIO, "Input/output error", "/data/of/my/own")

    with pytest.raises(OSError, match="/data/of/my/own") as caught:
        trained(tmp_path / "run", report=asked)
    assert not isinstance(caught.value, StoreError)
