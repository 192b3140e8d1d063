"""Ctrl-C: no update is cut in two, and nothing is lost."""

from __future__ import annotations

import signal

import numpy as np
import pytest
from byhand import identical
from interrupting import gone_on, interrupted, stopping_at, whole
from small import Noisy, Stream

import gradsim
from gradsim.data.store import read_record
from gradsim.errors import IncompleteRunError
from gradsim.training import checkpoint
from gradsim.training.verb import train
from gradsim_optimizers import SGD


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_training_has_done_its_update_and_goes_on(kind, tmp_path):
    usual = signal.getsignal(kind)
    interrupted(tmp_path / "run", kind=kind)
    assert signal.getsignal(kind) is usual
    assert read_record(tmp_path / "run")["status"] == "interrupted"
    assert checkpoint.load(tmp_path / "run").update == 5
    with pytest.raises(IncompleteRunError, match=r"'interrupted'.*gradsim resume"):
        gradsim.open_run(tmp_path / "run")
    so_far = gradsim.open_run(tmp_path / "run", allow_incomplete=True)
    np.testing.assert_array_equal(np.isfinite(so_far.train_loss), np.arange(8) < 5)
    assert identical(gone_on(tmp_path / "run"), whole())
    assert read_record(tmp_path / "run")["status"] == "complete"


def test_a_second_interruption_acts_at_once(tmp_path):
    interrupted(tmp_path / "run", times=2, checkpoint_seconds=0)
    assert read_record(tmp_path / "run")["status"] == "interrupted"
    assert checkpoint.load(tmp_path / "run").update == 4
    assert identical(gone_on(tmp_path / "run"), whole())


def test_interrupted_in_its_last_update(tmp_path):
    interrupted(tmp_path / "run", at=8)
    assert identical(gone_on(tmp_path / "run"), whole())


def test_without_a_folder_nothing_is_kept():
    with pytest.raises(KeyboardInterrupt):
        whole(report=stopping_at(2))


def test_interrupted_after_every_update_of_a_training_that_ends_early(tmp_path):
    setting = {
        "optimizer": SGD(0.3, momentum=0.9),
        "updates": 40,
        "batch": 2,
        "stateful": True,
        "record": {"every": 4, "recorders": ["adjoint_norm"]},
        "validate": {"every": 2},
        "stop": {"patience": 3},
    }
    alone = train(Noisy(), Stream(), **setting)
    last = alone.sizes["update"]
    assert 8 < last < 40
    for update in range(1, last + 1):
        interrupted(tmp_path / "run", Noisy(), Stream(), at=update, resume=True, **setting)
    assert identical(train(Noisy(), Stream(), **setting, store=tmp_path / "run", resume=True), alone)
