"""The loss of a run and its readout."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim_cells import LSTM, Elman
from gradsim_tasks import Adding, TemporalOrder

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def test_the_default_loss_is_the_sum_of_the_last_outputs():
    ds = gradsim.simulate(LSTM(2, 4), X, record=["state", "adjoint", "loss"])
    assert ds.attrs["loss"] == pytest.approx(float(ds.state[-1, :, :4].sum() / 3), rel=1e-14)
    assert ds.loss[:-1].sum() == 0
    np.testing.assert_array_equal(ds.adjoint[-1], np.tile([1 / 3] * 4 + [0] * 4, (3, 1)))


@pytest.mark.parametrize("task", [Adding(length=20), TemporalOrder(length=20)], ids=lambda t: t.name)
def test_gradient_of_the_readout(task):
    cell = Elman(task.input_size, 4)
    ds = gradsim.simulate(cell, task=task, batch=3, record=["gradient"], rng=1)
    streams = np.random.SeedSequence(1, spawn_key=(0,)), np.random.SeedSequence(1, spawn_key=(3,))
    own = cell.init_params(np.random.default_rng(streams[0]))
    readout = np.random.default_rng(streams[1]).standard_normal((task.output_size, 4)) / 2
    params = own | {"readout_W": readout, "readout_b": np.zeros(task.output_size)}
    for name in ("readout_W", "readout_b"):
        expected = numerical_gradient(lambda p: loss_of(cell, p, task=task, batch=3, rng=1), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-9)
