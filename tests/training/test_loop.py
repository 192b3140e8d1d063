"""What ends a training early."""

from __future__ import annotations

import numpy as np
import pytest
from byhand import after, start, trained
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
