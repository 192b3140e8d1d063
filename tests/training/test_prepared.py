"""Going on with a training: the same result, or a reason why not."""

from __future__ import annotations

import json

import numpy as np
import pytest
from byhand import identical, start
from interrupting import SETTING, gone_on, interrupted, whole
from small import Labelled

from gradsim.data import code
from gradsim.data.folder import RunFolder
from gradsim.data.store import read_record
from gradsim.errors import BudgetError, ChangedRunError, IncompleteRunError, InputError, StoreError
from gradsim.run.launch import Running
from gradsim.training.parameters import LiveLaunchParameters
from gradsim.training.verb import prepare_training, train
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import SGD, Adam


def test_a_complete_run_is_opened_as_it_is(tmp_path):
    ds = gone_on(tmp_path / "run").load()
    before = (tmp_path / "run" / "run.json").read_bytes()
    assert identical(gone_on(tmp_path / "run"), ds)
    assert (tmp_path / "run" / "run.json").read_bytes() == before


def test_without_a_checkpoint_it_begins_anew(tmp_path):
    interrupted(tmp_path / "run")
    (tmp_path / "run" / "checkpoint.npz").unlink()
    assert identical(gone_on(tmp_path / "run"), whole())


def test_where_no_run_is_one_begins(tmp_path):
    assert identical(gone_on(tmp_path / "new" / "run"), whole())
    with pytest.raises(InputError, match="resume: give the run folder"):
        whole(resume=True)


def test_it_is_not_replaced_unasked(tmp_path):
    interrupted(tmp_path / "run")
    with pytest.raises(IncompleteRunError, match=r"go on with `gradsim resume .*resume=True.*force=True"):
        whole(store=tmp_path / "run")
    assert identical(gone_on(tmp_path / "run"), whole())


class Stop(Exception):
    pass


def stop(event):
    raise Stop


def test_a_run_that_is_forced_never_goes_on_from_the_old_checkpoint(tmp_path):
    interrupted(tmp_path / "run")
    with pytest.raises(Stop):
        whole(store=tmp_path / "run", force=True, rng=1, report=stop)  # before its first checkpoint
    assert not (tmp_path / "run" / "checkpoint.npz").exists()
    assert identical(gone_on(tmp_path / "run", rng=1), whole(rng=1))


CHANGES = {
    "rate": ({"optimizer": Adam(0.2)}, r"training\.optimizer\.learning_rate: 0\.1 is now 0\.2"),
    "optimizer": ({"optimizer": SGD(0.1)}, r"training\.optimizer\.name: 'adam' is now 'sgd'"),
    "seed": ({"rng": 1}, r"seed\.entropy: '0' is now '1'"),
    "mitigation": (
        {"mitigations": [ClipNorm(1.0)]},
        r"mitigations: \[\] is now \[\{'max_norm': 1\.0, 'name': 'clip_norm', 'where': 'gradient'\}\]",
    ),
    "updates": ({"updates": 9}, r"training\.updates: 8 is now 9"),
    "batch": ({"batch": 3}, r"training\.batch: 2 is now 3"),
    "params": (
        {"params": start(Elman(2, 3), Labelled())},
        r"given\.params: None is now .*'U': 'array of shape \(3, 3\), dtype float64, sha256 \w{16}'",
    ),
    "validation": ({"validate": {"every": 4}}, r"training\.validate\.every: 3 is now 4"),
}


@pytest.mark.parametrize("case", CHANGES)
def test_other_arguments_are_refused_and_named(case, tmp_path):
    changes, message = CHANGES[case]
    interrupted(tmp_path / "run")
    before = (tmp_path / "run" / "run.json").read_bytes()
    with pytest.raises(ChangedRunError, match=message) as caught:
        gone_on(tmp_path / "run", **changes)
    assert "allow_changed=True" in str(caught.value)
    assert (tmp_path / "run" / "run.json").read_bytes() == before
    assert identical(gone_on(tmp_path / "run"), whole())


@pytest.mark.parametrize(
    ("cell", "task", "message"),
    [
        (Elman(2, 4), Labelled(), r"cell\.hidden_size: 3 is now 4"),
        (LSTM(2, 3), Labelled(), r"cell\.name: 'elman' is now 'lstm'"),
        (Elman(2, 3), Labelled(train=6), r"task\.train: 7 is now 6"),
    ],
)
def test_another_cell_or_task_is_refused(cell, task, message, tmp_path):
    interrupted(tmp_path / "run")
    with pytest.raises(ChangedRunError, match=message):
        train(cell, task, **SETTING, store=tmp_path / "run", resume=True)


def test_a_complete_run_with_other_arguments_is_not_taken_for_this_one(tmp_path, monkeypatch):
    ds = gone_on(tmp_path / "run").load()
    with pytest.raises(
        ChangedRunError, match=r"is complete, but .*\n.*learning_rate: 0\.1 is now 0\.2\nopen it"
    ):
        gone_on(tmp_path / "run", optimizer=Adam(0.2))
    monkeypatch.setattr(code, "_package", lambda name: "0123")
    assert identical(gone_on(tmp_path / "run"), ds)


def test_other_code_is_refused(tmp_path, monkeypatch):
    interrupted(tmp_path / "run")
    monkeypatch.setattr(code, "_package", lambda name: "0123" if name == "gradsim_cells" else "4567")
    with pytest.raises(ChangedRunError, match=r"code\.gradsim_cells: '\w{16}' is now '0123'"):
        gone_on(tmp_path / "run")


def test_a_change_that_is_allowed_is_written_down(tmp_path):
    interrupted(tmp_path / "run")
    ds = gone_on(tmp_path / "run", optimizer=Adam(0.2), allow_changed=True)
    np.testing.assert_array_equal(ds.learning_rate, [0.1] * 5 + [0.2] * 3)
    np.testing.assert_array_equal(ds.train_loss[:5], whole().train_loss[:5])
    (change,) = read_record(tmp_path / "run")["changes"]
    assert change["changed"] == ["training.optimizer.learning_rate: 0.1 is now 0.2"]
    assert json.loads(ds.attrs["provenance"])["training"]["optimizer"]["learning_rate"] == 0.2


UNFITTING = {
    "cell": (Elman(2, 4), {}, r"has 26 parameters .* this training has 38"),
    "slots": (Elman(2, 3), {"optimizer": SGD(0.1)}, r"slots \['\w+', '\w+'\], .* has 26 and \[\]"),
    "updates": (Elman(2, 3), {"updates": 9}, r"epoch of shape \(8,\) where this run has \(9,\)"),
    "watch": (Elman(2, 3), {"watch": False}, r"of shape \(\d,.*\) where this run has None"),
    "validate": (
        Elman(2, 3),
        {"validate": {"every": 4}},
        r"validation_loss of shape .4,. where this run has .3",
    ),
    "probe": (
        Elman(2, 3),
        {"record": {"every": 2, "recorders": ["lyapunov"]}},
        r"have batch of shape None where this run has \(1,\)",
    ),
}


@pytest.mark.parametrize("case", UNFITTING)
def test_what_cannot_go_on_is_refused_also_when_changes_are_allowed(case, tmp_path):
    cell, changes, message = UNFITTING[case]
    interrupted(tmp_path / "run")
    with pytest.raises(StoreError, match=message):
        train(cell, Labelled(), **SETTING | changes, store=tmp_path / "run", resume=True, allow_changed=True)
    assert identical(gone_on(tmp_path / "run"), whole())


def test_what_does_not_fit_is_refused_before_a_folder_is_made(tmp_path, monkeypatch):
    probe = {"record": {"every": 1, "recorders": ["jacobian_product"]}}
    plain = prepare_training(Elman(2, 3), Labelled(), **SETTING)
    probed = prepare_training(Elman(2, 3), Labelled(), **SETTING | probe)
    needed = probed.setup.probe_plan.memory_bytes
    with pytest.raises(BudgetError, match="memory"):
        plain.run(store=tmp_path / "run", memory=1)
    monkeypatch.setattr(type(probed), "_backpropagation", lambda *given: None)  # its updates fit
    with pytest.raises(BudgetError, match="memory"):
        probed.run(store=tmp_path / "run", memory=needed - 1)
    monkeypatch.undo()
    sizes = probed.sizes()
    written = sum(sizes.values())
    probed.refuse_beyond(None, written)
    monkeypatch.setattr("gradsim.run.launch.free_disk", lambda path: written - 1)
    largest = max(sizes, key=sizes.get)
    with pytest.raises(BudgetError, match=f"this training writes .* is free: {largest} alone takes"):
        probed.run(store=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_progress_goes_on_where_the_training_stopped(tmp_path):
    interrupted(tmp_path / "run", at=5)
    prepared, told = prepare_training(Elman(2, 3), Labelled(), **SETTING), []
    begun = prepared.begun(RunFolder(tmp_path / "run", prepared.provenance))
    running = Running(prepared.memory_sink(), 1, None, None, begun, LiveLaunchParameters())
    prepared.execute(running, lambda stage, done: told.append((stage.split(" ")[0], done)))
    assert told == [("resuming", 5), *[("loss", 1.0)] * 3]


def test_more_updates_than_can_be_numbered_are_refused():
    with pytest.raises(BudgetError, match=r"updates=1099511627776 take 8\.8 TB of memory for their numbers"):
        train(Elman(2, 3), Labelled(), **SETTING | {"updates": 2**40, "validate": None})
