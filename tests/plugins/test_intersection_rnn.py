"""The intersection network: along time a UGRNN, along depth a highway."""

from __future__ import annotations

import numpy as np
from stepping import moved

import gradsim
from gradsim.testing import conformance
from gradsim_cells import UGRNN, IntersectionRNN
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

test_kit = conformance(IntersectionRNN(2, 3))


def run(cell, params, inputs):
    return gradsim.simulate(cell, inputs, params=params, record=["state"]).state[1:].values


def test_along_time_it_is_a_ugrnn_and_along_depth_a_highway(inputs, rng):
    cell = IntersectionRNN(2, 3)
    params = moved(cell, rng)
    found = run(cell, params, inputs)
    along = {n: params[n][:6] for n in "WUb"}
    np.testing.assert_allclose(found[..., :3], run(UGRNN(2, 3), along, inputs), rtol=1e-13)
    before = np.concatenate((np.zeros((1, *found.shape[1:-1], 3)), found[:-1, :, :3]))
    net = inputs @ params["W"][6:12].T + before @ params["U"][6:].T + params["b"][6:]
    skip, net_d, net_y = inputs @ params["W"][12:].T, net[..., :3], net[..., 3:]
    expected = np.maximum(net_y, 0)
    expected += (skip - expected) / (1 + np.exp(-net_d))
    np.testing.assert_allclose(found[..., 3:], expected, rtol=1e-12)


def test_an_open_gate_along_depth_hands_the_input_on(inputs, rng):
    cell = IntersectionRNN(2, 2)
    params = moved(cell, rng)
    params["W"][4:6], params["U"][4:6], params["b"][4:6] = 0.0, 0.0, 800.0
    params["W"][8:] = np.eye(2)
    np.testing.assert_array_equal(run(cell, params, inputs)[..., 2:], inputs)


def test_it_is_trained():
    loss = gradsim.train(
        IntersectionRNN(2, 8), Adding(length=20), optimizer=Adam(), updates=40, batch=32, rng=0
    ).train_loss
    assert loss[-5:].mean() < loss[:5].mean()
