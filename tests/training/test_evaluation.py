"""Validation on sequences that are not trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from byhand import after, loss_by_hand, start, unrolled
from small import Given, Labelled, Noisy, Recall, Stream

import gradsim
from gradsim import Mitigation, hookimpl
from gradsim.errors import InputError
from gradsim.training.verb import train
from gradsim_cells import LSTM, Elman
from gradsim_optimizers import SGD

SETTING = {"optimizer": SGD(0.3), "batch": 2}


def test_loss_and_score_are_those_of_the_whole_part_by_hand():
    cell, task = LSTM(2, 3), Labelled()
    setting = {**SETTING, "params": start(cell, task)}
    ds = train(cell, task, updates=5, validate={"every": 2}, **setting)
    whole = task.take("validation", np.arange(5))
    for i, update in enumerate((0, 2, 4, 5)):
        params = after(update, cell, task, **setting)
        np.testing.assert_allclose(ds.validation_loss[i], loss_by_hand(params, cell, whole), rtol=1e-11)
        states, _ = unrolled(cell, params, whole.inputs)
        said = states[..., cell.block("h")] @ params["readout_W"].T + params["readout_b"]
        right = (said.argmax(-1) == whole.targets) * whole.weights
        np.testing.assert_allclose(ds.validation_score[i], right.sum() / whole.weights.sum())


def test_the_loss_is_that_of_a_simulation():
    cell, task = Elman(2, 3), Labelled(validation=2)
    setting = {**SETTING, "params": start(cell, task)}
    ds = train(cell, task, updates=1, validate={"every": 1}, **setting)
    seen = Given(task, task.take("validation", np.arange(2)))
    for i in (0, 1):
        params = after(i, cell, task, **setting)
        run = gradsim.simulate(cell, task=seen, batch=2, params=params, record=["loss"])
        np.testing.assert_allclose(ds.validation_loss[i], run.attrs["loss"], rtol=1e-13)


def test_only_the_first_sequences_if_so_many_are_asked_for():
    cell, task = Elman(2, 3), Labelled()
    setting = {**SETTING, "params": start(cell, task)}
    ds = train(cell, task, updates=1, validate={"every": 1, "sequences": 3}, **setting)
    expected = loss_by_hand(setting["params"], cell, task.take("validation", np.arange(3)))
    np.testing.assert_allclose(ds.validation_loss[0], expected, rtol=1e-12)


def test_a_stateful_validation_carries_the_state_on():
    cell, task, whole = LSTM(1, 3), Stream(), Stream(length=12, train=2, validation=1)
    params = start(cell, task)
    moved = whole.take("train", np.arange(1))
    object.__setattr__(task, "numbers", np.append(np.zeros(28), np.append(moved.inputs.ravel(), 0)))
    setting = {"optimizer": SGD(0.3), "batch": 1, "params": params, "stateful": True, "updates": 1}
    ds = train(cell, task, validate={"every": 1}, **setting)
    expected = loss_by_hand(params, cell, moved)
    np.testing.assert_allclose(ds.validation_loss[0], expected, rtol=1e-12)


class Lifted(Elman):
    """Starts from states of 1/2."""

    name = "lifted"

    def initial_state(self):
        return np.full(self.state_size, 0.5)


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize(("dtype", "close"), [("float32", 1e-6), ("float64", 1e-13)])
def test_it_starts_from_the_first_state_of_the_cell_in_the_dtype_of_the_training(stateful, dtype, close):
    cell, task = Lifted(1, 3), Stream(train=1, validation=1)
    setting = {"optimizer": SGD(1e-30), "batch": 1, "params": start(cell, task), "updates": 1}
    ds = train(cell, task, validate={"every": 1}, stateful=stateful, dtype=dtype, **setting)
    for found, part in ((ds.validation_loss[0], "validation"), (ds.train_loss[0], "train")):
        expected = loss_by_hand(setting["params"], cell, task.take(part, np.arange(1)))
        np.testing.assert_allclose(found, expected, rtol=close)


def test_a_task_without_end_is_validated_on_the_same_sequences_every_time():
    cell = Elman(2, 3)
    setting = {"optimizer": SGD(1e-300), "batch": 4, "params": start(cell, Recall())}
    one = train(cell, Recall(), updates=3, validate={"every": 1, "sequences": 10}, **setting)
    assert len(set(one.validation_loss.values)) == 1
    assert one.validation_loss.values[0] not in one.train_loss.values
    other = train(cell, Recall(), updates=1, validate={"every": 1, "sequences": 10}, rng=1, **setting)
    assert other.validation_loss[0] != one.validation_loss[0]


def test_the_noise_of_a_validation_is_the_same_every_time():
    ds = train(Noisy(), Stream(), optimizer=SGD(1e-300), batch=2, updates=3, validate={"every": 1})
    assert len(set(ds.validation_loss.values)) == 1


def test_a_task_without_a_metric_has_no_score():
    ds = train(Elman(1, 2), Stream(), **SETTING, updates=1, validate={"every": 1})
    assert "validation_score" not in ds
    assert "metric" not in ds.attrs


def test_a_finite_task_without_a_part_for_validation_is_named():
    class Unvalidated(Labelled):
        sequences = {"train": 7}  # noqa: RUF012

    with pytest.raises(InputError, match="labelled has no part 'validation', only train"):
        train(Elman(2, 2), Unvalidated(), updates=2, **SETTING, validate={"every": 1})


@dataclass(frozen=True, eq=False)
class ForReadout(Mitigation):
    """Draws for a weight of the readout."""

    name = "for_readout"

    def draw(self, rng, shapes):
        return {"noise": rng.standard_normal(shapes["readout_W"])}

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        return (yield)


def test_mitigations_draw_for_the_readout_while_validating():
    ds = train(Elman(1, 2), Stream(), **SETTING, updates=1, validate={"every": 1}, mitigations=[ForReadout()])
    assert np.isfinite(ds.validation_loss).all()
