"""NaN and infinity: where they began, and that nothing that was good is lost."""

from __future__ import annotations

import re

import numpy as np
import pytest
from byhand import start, trained
from small import Labelled, Recall, Stream

import gradsim
from gradsim.data.store import read_record
from gradsim.errors import DivergedError, IncompleteRunError
from gradsim.training import checkpoint
from gradsim.training.verb import train
from gradsim_cells import Elman, Linear
from gradsim_optimizers import SGD, Adam


def exploding(task=None, **changes):
    """Gradient descent on a linear cell with far too large a rate."""
    task = Stream(length=30) if task is None else task
    setting = {"optimizer": SGD(20.0, momentum=0.5), "updates": 30, "batch": 2}
    return train(Linear(task.input_size, 3), task, **setting | changes)


def failed(**changes):
    with pytest.raises(DivergedError) as caught:
        exploding(**changes)
    message = str(caught.value)
    return int(message.split(":")[0].removeprefix("update ")), message


def test_the_error_names_the_update_and_where_it_began():
    update, message = failed()
    assert 1 < update <= 10
    assert "for the first time at" in message or "leaves the range of float64, from step" in message
    assert "the last good parameters" not in message


def test_the_folder_keeps_what_was_good(tmp_path):
    update, message = failed(store=tmp_path / "run")
    assert f"the last good parameters are in {tmp_path / 'run' / 'checkpoint.npz'}" in message
    record = read_record(tmp_path / "run")
    assert record["status"] == "failed"
    assert record["error"].startswith(f"DivergedError: update {update}: ")
    good = exploding(updates=update - 1)
    kept = checkpoint.load(tmp_path / "run")
    assert kept.update == update - 1
    np.testing.assert_array_equal(kept.vector, np.concatenate([p.ravel() for p in trained(good).values()]))
    with pytest.raises(IncompleteRunError, match="its status is 'failed'"):
        gradsim.open_run(tmp_path / "run")
    seen = gradsim.open_run(tmp_path / "run", allow_incomplete=True)
    np.testing.assert_array_equal(seen.train_loss[: update - 1], good.train_loss)
    assert np.isnan(seen.train_loss[update - 1 :]).all()


def test_going_on_meets_the_same_error(tmp_path):
    _, message = failed(store=tmp_path / "run")
    assert failed(store=tmp_path / "run", resume=True)[1] == message


def test_a_gradient_out_of_range_names_parameter_and_step():
    """Adjoints of about 0.1 that grow by 100 a step pass 1e308 in 154 steps, where states of 0 stay 0."""
    task = Recall(length=200)
    params = start(Linear(2, 2), task) | {"U": 100 * np.eye(2), "W": np.zeros((2, 2))}
    message = r"update 1: the gradient of W leaves the range of float64, from step (\d+) back"
    with pytest.raises(DivergedError, match=message) as caught:
        train(Linear(2, 2), task, optimizer=SGD(0.1), updates=1, batch=2, params=params)
    assert abs(int(re.search(message, str(caught.value))[1]) - 46) <= 2


class Bursting(SGD):
    """Goes too far at its third update."""

    name = "bursting"
    factor = 1.0

    def change(self, params, gradient, slots, rate, update):
        change = super().change(params, gradient, slots, rate, update)
        return change * np.full_like(change, self.factor) if update == 3 else change


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (np.inf, "update 3: bursting makes the parameter W NaN or infinite"),
        (np.finfo(float).max, "update 3: overflow encountered in multiply in bursting"),
    ],
)
def test_parameters_that_leave_the_range_are_named(factor, message, tmp_path):
    task, cell = Labelled(), Elman(2, 3)
    setting = {"batch": 2, "params": {n: 50 * p for n, p in start(cell, task).items()}}
    optimizer = Bursting(1e3, momentum=0.9)
    object.__setattr__(optimizer, "factor", factor)
    with pytest.raises(DivergedError, match=message):
        train(cell, task, optimizer=optimizer, updates=5, **setting, store=tmp_path / "run")
    kept = checkpoint.load(tmp_path / "run")
    good = train(cell, task, optimizer=optimizer, updates=2, **setting)
    assert kept.update == 2
    np.testing.assert_array_equal(kept.vector, np.concatenate([p.ravel() for p in trained(good).values()]))
    np.testing.assert_allclose(kept.slots["velocity"], velocity_after_two(cell, task, setting))


def velocity_after_two(cell, task, setting):
    rates = {"batch": 2, "params": setting["params"]}
    one, two = (train(cell, task, optimizer=SGD(1e3, momentum=0.9), updates=n, **rates) for n in (1, 2))
    return np.concatenate([(trained(one)[n] - trained(two)[n]).ravel() / 1e3 for n in trained(one)])


@pytest.mark.parametrize("update", [1, 4])
def test_bad_inputs_of_a_task_are_named(update):
    task = Recall(broken_at=update + 3)  # the first batch is drawn three times more, before the first update
    pattern = rf"update {update}: Recall\(.*\): inputs is nan for the first time at time 2, batch 1"
    with pytest.raises(DivergedError, match=pattern):
        train(Elman(2, 3), task, optimizer=Adam(0.1), updates=6, batch=2)


class Longer(Stream):
    """Its sequences for validation are ten times too large."""

    name = "longer"

    def take(self, part, chosen):
        episode = super().take(part, chosen)
        if part == "validation":
            episode.inputs[...] *= 1e200 if self.spoilt else 1
        return episode

    spoilt = False


def test_a_validation_that_is_not_finite_is_met_again_on_the_way(tmp_path):
    """Its row must not be left out by a training that goes on."""
    task = Longer()
    setting = {"optimizer": SGD(0.1), "updates": 6, "batch": 2, "validate": {"every": 2}}
    setting |= {"store": tmp_path / "run", "resume": True}

    def spoil(event):
        if event["event"] == "update":
            Longer.spoilt = event["update"] == 4

    try:
        with pytest.raises(DivergedError, match=r"^after update 4: .* loss is inf"):
            train(Linear(1, 2), task, **setting, report=spoil)
        with pytest.raises(DivergedError, match=r"^after update 4: .* loss is inf"):
            train(Linear(1, 2), task, **setting, report=spoil)
        Longer.spoilt = False
        ds = train(Linear(1, 2), task, **setting)
    finally:
        Longer.spoilt = False
    whole = train(Linear(1, 2), Longer(), **setting | {"store": None, "resume": False})
    np.testing.assert_array_equal(ds.validation_loss, whole.validation_loss)
