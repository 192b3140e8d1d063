"""What ends a training early."""

from __future__ import annotations

import numpy as np
import pytest
from byhand import after, identical, start, trained
from interrupting import interrupted
from small import Labelled, Stream

from gradsim.training.verb import train
from gradsim_cells import LSTM, Elman
from gradsim_optimizers import SGD

SETTING = {"optimizer": SGD(0.3), "batch": 2}


def test_patience_keeps_the_parameters_of_the_lowest_loss():
    cell, task = Elman(1, 3), Stream()
    setting = {"optimizer": SGD(0.3), "batch": 2, "params": start(cell, task)}
    ds = train(cell, task, updates=40, validate={"every": 2}, stop={"patience": 3}, **setting)
    best = int(np.argmin(ds.validation_loss.values))
    assert 0 < best < ds.sizes["validation_update"] - 1
    assert ds.attrs["trained_update"] == ds.validation_update[best] < ds["update"][-1]
    assert ds.validation_loss[best + 1 :].size == 3
    for name, value in after(2 * best, cell, task, **setting).items():
        np.testing.assert_array_equal(value, trained(ds)[name])
    assert f"after update {2 * best} 3 times" in ds.attrs["ended"]


@pytest.mark.parametrize("solved", ["loss_below", "score_above"])
def test_a_solved_task_ends_the_training(solved):
    cell, task = LSTM(2, 4), Labelled()
    setting = {**SETTING, "optimizer": SGD(1.0), "params": start(cell, task)}
    free = train(cell, task, updates=60, validate={"every": 3}, **setting)
    variable = free.validation_loss if solved == "loss_below" else free.validation_score
    first, last = float(variable[0]), float(variable[-1])
    limit = (first + last) / 2
    good = np.flatnonzero(variable < limit if solved == "loss_below" else variable > limit)
    assert good[0] > 0
    ds = train(cell, task, updates=60, validate={"every": 3}, stop={solved: limit}, **setting)
    assert ds["update"].values[-1] == 3 * good[0]
    assert ds.attrs["ended"].startswith("solved: the validation " + solved.split("_")[0])
    np.testing.assert_array_equal(ds.validation_loss, free.validation_loss[: good[0] + 1])
    for name, value in after(3 * good[0], cell, task, **setting).items():
        np.testing.assert_array_equal(value, trained(ds)[name])


STILL = {"optimizer": SGD(1e-300), "updates": 6, "batch": 2, "validate": {"every": 2}}


def test_a_limit_that_is_met_exactly_ends_nothing():
    free = train(LSTM(2, 2), Labelled(), **STILL)
    loss, score = float(free.validation_loss[0]), float(free.validation_score[0])
    for stop in ({"loss_below": loss}, {"score_above": score}):
        assert train(LSTM(2, 2), Labelled(), **STILL, stop=stop).attrs["ended"] == "after all updates"
    for stop in ({"loss_below": np.nextafter(loss, 9)}, {"score_above": np.nextafter(score, -1)}):
        ds = train(LSTM(2, 2), Labelled(), **STILL, stop=stop)
        assert ds.attrs["ended"].startswith("solved")
        assert (ds.sizes["update"], ds.sizes["validation_update"]) == (0, 1)


@pytest.mark.parametrize(("patience", "updates"), [(1, 2), (2, 4), (3, 6), (4, 6)])
def test_a_loss_that_is_no_lower_tries_the_patience(patience, updates):
    ds = train(LSTM(2, 2), Labelled(), **STILL, stop={"patience": patience})
    assert ds.sizes["update"] == updates
    assert ds.attrs["trained_update"] == 0
    told = "after all updates" if patience == 4 else f"than that after update 0 {patience} times"
    assert ds.attrs["ended"].endswith(told)


@pytest.mark.parametrize("at", [1, 3, 6, 7])
def test_patience_that_is_interrupted_goes_on(tmp_path, at):
    setting = {"optimizer": SGD(0.5), "updates": 60, "batch": 4, "validate": {"every": 2}}
    setting |= {"stop": {"patience": 3}, "params": start(Elman(2, 4), Labelled())}
    interrupted(tmp_path / "run", Elman(2, 4), Labelled(train=4), at=at, **setting)
    ds = train(Elman(2, 4), Labelled(train=4), **setting, store=tmp_path / "run", resume=True)
    assert identical(ds, train(Elman(2, 4), Labelled(train=4), **setting))
    assert ds.attrs["trained_update"] < ds.sizes["update"] < 60


def test_what_happens_is_reported_in_order(tmp_path):
    told = []
    setting = {"updates": 5, "validate": {"every": 3}, "record": {"every": 2, "recorders": ["loss"]}}
    ds = train(
        Elman(2, 3),
        Labelled(),
        optimizer=SGD(0.1),
        batch=2,
        store=tmp_path / "run",
        report=told.append,
        **setting,
    )
    begun = ["probe 0", "validation 0", "checkpoint 0"]
    middle = ["update 1", "update 2", "probe 2", "update 3", "validation 3", "update 4", "probe 4"]
    expected = [*begun, *middle, "update 5", "validation 5", "checkpoint 5"]
    assert [f"{e['event']} {e['update']}" for e in told] == expected
    updates = [e for e in told if e["event"] == "update"]
    np.testing.assert_array_equal([e["loss"] for e in updates], ds.train_loss)
    np.testing.assert_array_equal([e["gradient_norm"] for e in updates], ds.train_gradient_norm)
    validations = [e for e in told if e["event"] == "validation"]
    np.testing.assert_array_equal([e["validation_loss"] for e in validations], ds.validation_loss)
    np.testing.assert_array_equal([e["validation_score"] for e in validations], ds.validation_score)
