"""What is noted of updates, in chunks and up to an early end."""

from __future__ import annotations

import numpy as np
import pytest
from byhand import identical
from small import Labelled, Stream

from gradsim.training.verb import train
from gradsim_cells import LSTM, Elman
from gradsim_optimizers import SGD


def test_more_updates_than_fit_one_chunk(tmp_path, monkeypatch):
    for module in ("setup", "history"):
        monkeypatch.setattr(f"gradsim.training.{module}.ROWS", 8)
    setting = {"optimizer": SGD(0.01), "updates": 20, "batch": 2, "validate": {"every": 3}}
    in_memory = train(Elman(1, 2), Stream(), **setting)
    stored = train(Elman(1, 2), Stream(), **setting, store=tmp_path / "run", checkpoint_seconds=0)
    assert stored.train_loss.encoding["chunks"] == (8,)
    assert np.isfinite(in_memory.train_loss).all()
    assert identical(stored, in_memory)


@pytest.mark.parametrize("stored", [False, True], ids=["memory", "disk"])
def test_an_early_end_shortens_every_dim(stored, tmp_path):
    setting = {"optimizer": SGD(1e-300), "batch": 2, "validate": {"every": 2}, "stop": {"patience": 2}}
    setting |= {"record": {"every": 3, "recorders": ["adjoint_norm"]}, "updates": 50}
    where = {"store": tmp_path / "run", "checkpoint_seconds": 0} if stored else {}
    ds = train(LSTM(2, 2), Labelled(), **setting, **where).load()
    assert (ds.sizes["update"], ds.sizes["probe_update"], ds.sizes["validation_update"]) == (4, 2, 3)
    assert [ds[f"{n}update"].values[-1] for n in ("", "probe_", "validation_")] == [4, 3, 4]
    assert np.isfinite(ds.train_loss).all()
    assert np.isfinite(ds.adjoint_norm).all()
    assert ds.attrs["ended"] == "no lower validation loss than that after update 0 2 times"
    if stored:
        assert identical(ds, train(LSTM(2, 2), Labelled(), **setting))
