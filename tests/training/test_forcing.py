"""Cells that are told what they should have said: targets and weights of the task as step data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from byhand import start
from helpers import loss_of, numerical_gradient
from small import Labelled, Stream

import gradsim
from gradsim import Cell
from gradsim.errors import InputError
from gradsim.testing import check_cell, conformance
from gradsim.training.verb import train
from gradsim_optimizers import SGD


@dataclass(frozen=True, eq=False)
class Forced(Cell):
    """h_t = tanh(W h_{t-1} + U x_t + V y*_t w_t): sees the target y*_t where its weight is not 0."""

    name = "forced"
    input_size: int = 1

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        shapes = {"W": (3, 3), "U": (3, self.input_size), "V": (3, 1)}
        return {name: rng.standard_normal(shape) / 2 for name, shape in shapes.items()}

    def step(self, params, state, inputs, xp, *, targets, weights):
        told = targets * weights[..., None]
        return xp.tanh(state @ params["W"].T + inputs @ params["U"].T + told @ params["V"].T)


test_forced = conformance(Forced(), task=Stream())


def by_hand(params, episode):
    state, states = np.zeros((episode.inputs.shape[1], 3)), []
    for x, y, w in zip(episode.inputs, episode.targets, episode.weights, strict=True):
        state = Forced().step(params, state, x, np, targets=y, weights=w)
        states.append(state)
    said = np.stack(states) @ params["readout_W"].T + params["readout_b"]
    return (episode.weights * ((said - episode.targets) ** 2).mean(-1)).sum() / state.shape[0]


def test_a_run_with_forcing_is_that_worked_out_by_hand():
    task = Stream(train=5, length=6)
    params = start(Forced(), task)
    given = {"task": task, "batch": 4}
    ds = gradsim.simulate(Forced(), params=params, record=["gradient"], **given)
    assert ds.attrs["loss"] == pytest.approx(by_hand(params, task.given[-1]), rel=1e-13)
    for name in ("V", "W"):
        expected = numerical_gradient(lambda p: loss_of(Forced(), p, **given), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-9)


def test_training_validation_and_probes_force_alike():
    task = Stream()
    params = start(Forced(), task)
    ds = train(
        Forced(),
        task,
        optimizer=SGD(0.1),
        updates=3,
        batch=2,
        params=params,
        validate={"every": 3},
        record={"every": 3, "recorders": ["loss"], "batch": 3},
    )
    assert ds.train_loss[0] == pytest.approx(by_hand(params, task.last(3)[0]), rel=1e-13)
    whole = task.take("validation", np.arange(3))
    assert ds.validation_loss[0] == pytest.approx(by_hand(params, whole), rel=1e-13)
    assert ds.loss[0].sum("step").mean() == pytest.approx(by_hand(params, whole), rel=1e-13)


def test_without_a_task_there_are_no_targets():
    with pytest.raises(InputError, match=r"Forced\(.* asks for the targets of a task, and there is none"):
        gradsim.simulate(Forced(), np.ones((3, 1, 1)))


@dataclass(frozen=True, eq=False)
class Classes(Forced):
    """h_t = tanh(W h_{t-1} + U x_t), or of half of that where the class is not 1."""

    name = "classes"
    input_size: int = 2

    def step(self, params, state, inputs, xp, *, targets):
        drive = state @ params["W"].T + inputs @ params["U"].T
        return xp.tanh(xp.where(targets[..., None] == 1, drive, 0.5 * drive))


def test_targets_stay_as_the_task_keeps_them():
    """Class numbers stay ints, and a run locks nothing that is not its own."""
    task = Labelled()
    gradsim.simulate(Classes(), task=task, batch=2)
    assert task.given[-1].targets.flags.writeable
    check_cell(Classes(), task=task)
