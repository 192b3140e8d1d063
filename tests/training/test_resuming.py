"""Going on with a training that is known from its folder alone, or from a script."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from byhand import identical, start
from helpers import reconfigured
from interrupting import SETTING, gone_on, interrupted
from small import Half, Noisy, Stream

import gradsim
from gradsim import Pairs
from gradsim.data import code
from gradsim.errors import BudgetError, ChangedRunError, StoreError, UnknownNameError
from gradsim.run.run import Run
from gradsim.training.resuming import resume
from gradsim.training.settings import Probe, Stopping, Validation
from gradsim.training.verb import prepare_training, train
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import ClipNorm, Truncate
from gradsim_optimizers import SGD, Adam
from gradsim_schedules import Warmup
from gradsim_tasks import Adding

RICH = {
    "optimizer": Adam(0.05, schedule=Warmup(length=3)),
    "updates": 5,
    "batch": 2,
    "mitigations": [Truncate(5, 10), ClipNorm(0.5)],
    "record": Probe(every=2, recorders=("product_norm", "lyapunov"), batch=2, pairs=Pairs(lags=(0, 3, 7))),
    "validate": Validation(every=2, sequences=6),
    "stop": Stopping(loss_below=1e-9),
    "rng": np.random.SeedSequence([4, 5], spawn_key=(6,)),
    "dtype": "float32",
}


def test_everything_is_built_again_from_the_folder(tmp_path):
    interrupted(tmp_path / "run", LSTM(2, 3), Adding(length=20), at=3, **RICH)
    ds = resume(tmp_path / "run")
    assert identical(ds, train(LSTM(2, 3), Adding(length=20), **RICH))
    assert identical(resume(tmp_path / "run"), ds)


def test_given_parameters_are_in_the_checkpoint(tmp_path):
    cell, task = Elman(2, 3), Adding(length=20)
    setting = {"optimizer": SGD(0.1), "updates": 4, "batch": 2, "params": start(cell, task), "validate": None}
    interrupted(tmp_path / "run", cell, task, at=2, **setting)
    assert identical(resume(tmp_path / "run"), train(cell, task, **setting))
    resume(tmp_path / "run")
    interrupted(tmp_path / "lost", cell, task, at=2, **setting)
    (tmp_path / "lost" / "checkpoint.npz").unlink()
    with pytest.raises(StoreError, match="run the script that made it again with resume=True"):
        resume(tmp_path / "lost")


@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")
def test_a_budget_of_memory_is_kept_and_changes_no_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsim.engine.segments._STATE_BYTES", 500)  # several segments
    task, setting = Adding(length=60), RICH | {"updates": 3}
    plan = prepare_training(LSTM(2, 3), task, **setting)._backpropagation(1, None).plan
    probe = prepare_training(LSTM(2, 3), task, **setting).setup.probe_plan
    assert plan.schedule(plan.memory_bytes).recomputed() > 0
    interrupted(tmp_path / "run", LSTM(2, 3), task, at=2, **setting)
    with pytest.raises(BudgetError, match="memory"):
        resume(tmp_path / "run", memory=plan.memory_bytes - 1)
    ds = resume(tmp_path / "run", memory=max(plan.memory_bytes, probe.memory_bytes), threads=1)
    assert identical(ds, train(LSTM(2, 3), task, **setting))


def test_chosen_snapshots_change_no_bit_and_are_chosen_again(tmp_path, monkeypatch):
    monkeypatch.setattr("gradsim.engine.segments._STATE_BYTES", 1)  # segments of 8 steps
    task, setting = Adding(length=64), RICH | {"updates": 3}
    whole = train(LSTM(2, 3), task, **setting)
    interrupted(tmp_path / "run", LSTM(2, 3), task, at=2, snapshots=3, **setting)
    ds = resume(tmp_path / "run")
    assert (whole.attrs["snapshots"], whole.attrs["recomputed_steps"]) == (0, 0)
    assert (ds.attrs["snapshots"], ds.attrs["recomputed_steps"]) == (3, 8 * 11)  # t(8, 3) = 11
    xr.testing.assert_equal(ds.load(), whole)


def test_a_budget_is_handed_on_to_every_pass(tmp_path, monkeypatch):
    interrupted(tmp_path / "run", Elman(2, 3), Adding(length=20), at=2, **RICH | {"record": None})
    seen = []
    begin = Run.__init__
    monkeypatch.setattr(Run, "__init__", lambda self, *rest: (seen.append(rest[-1]), begin(self, *rest))[1])
    resume(tmp_path / "run", memory=1e9, threads=1)
    assert seen == [1e9] * 3


def test_a_cell_of_a_script_is_named(tmp_path):
    interrupted(tmp_path / "run", Noisy(), Stream(), at=2)
    with pytest.raises(UnknownNameError, match=r"'noisy'.*run the script again with resume=True"):
        resume(tmp_path / "run")


def test_a_cell_of_a_script_that_has_changed_is_noticed(tmp_path, monkeypatch):
    interrupted(tmp_path / "run", Noisy(), Stream(), at=2)
    source = code._source
    monkeypatch.setattr(code, "_source", lambda cls: "new" if cls is Noisy else source(cls))
    with pytest.raises(
        ChangedRunError, match=r"differently:\n  code\.small\.Noisy: '\w+' is now 'new'\ngo on"
    ):
        train(Noisy(), Stream(), **SETTING, store=tmp_path / "run", resume=True)


def test_a_schedule_of_a_script_that_has_changed_is_noticed(tmp_path, monkeypatch):
    optimizer = Adam(0.1, schedule=Half())
    interrupted(tmp_path / "run", optimizer=optimizer)
    monkeypatch.setattr(code, "_source", lambda cls: "new")
    with pytest.raises(ChangedRunError, match=r"code\.small\.Half: '\w+' is now 'new'"):
        gone_on(tmp_path / "run", optimizer=optimizer)


@pytest.mark.parametrize("changes", [{"seed": 3}, {"training": [1]}, {"seed": {"entropy": "x("}}])
def test_a_damaged_configuration_is_named(tmp_path, changes):
    interrupted(tmp_path / "run", Elman(2, 3), Adding(length=20), at=2, validate=None)
    reconfigured(tmp_path / "run", **changes)
    with pytest.raises(StoreError, match=r"cannot read .*run\.json: .*; if it is damaged, begin again"):
        resume(tmp_path / "run")


def test_a_simulation_is_no_training(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((4, 1, 2)), store=tmp_path / "run")
    with pytest.raises(StoreError, match="holds a simulation, not a training"):
        resume(tmp_path / "run")
    gradsim.compare([Elman(2, 3)], inputs=np.ones((4, 1, 2)), seeds=1, store=tmp_path / "several")
    with pytest.raises(StoreError, match="holds a comparison, not a training"):
        resume(tmp_path / "several")
    with pytest.raises(StoreError, match=r"has no run\.json"):
        resume(tmp_path)
