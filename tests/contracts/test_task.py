"""What a task hands over, and the losses that tasks share."""

from __future__ import annotations

from dataclasses import dataclass

import autograd.numpy as anp
import numpy as np
import pytest
from autograd import elementwise_grad
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim import Cell, Episode, Task, Wrapper, squared_error
from gradsim.contracts.task import cross_entropy
from gradsim.errors import UnknownNameError
from gradsim_cells import Elman


@dataclass(frozen=True, eq=False)
class Forced(Wrapper):
    """The state is pulled towards a target that the task gives: s = (1 - a) f(s, x) + a target."""

    name = "forced"
    cell: Cell

    def mix(self, own, state, inputs, new, xp, *, forcing):
        return 0.9 * new + 0.1 * forcing


@dataclass(frozen=True, eq=False)
class Copy(Task):
    """Gives a forcing target beside its inputs."""

    name = "copy"
    input_size = 2
    output_size = 2

    def sample(self, rng, batch):
        x = rng.standard_normal((9, batch, 2))
        forcing = rng.standard_normal((9, batch, 4))
        return Episode(x, x, np.full((9, batch), 1 / 9), {"forcing": forcing})

    def loss(self, outputs, targets, xp):
        return squared_error(outputs, targets, xp)


def test_a_task_hands_forcing_targets_to_the_cell():
    cell = Forced(Elman(2, 4))
    params = Elman(2, 4).init_params(np.random.default_rng(0))
    ds = gradsim.simulate(cell, task=Copy(), batch=3, params=params, record=["gradient"])
    expected = numerical_gradient(lambda p: loss_of(cell, p, task=Copy(), batch=3), params, "U")
    np.testing.assert_allclose(ds.gradient_U, expected, rtol=1e-6, atol=1e-9)


def test_a_missing_forcing_target_is_named(inputs):
    with pytest.raises(UnknownNameError, match="'forcing'"):
        gradsim.simulate(Forced(Elman(2, 4)), inputs)


def test_cross_entropy_is_minus_log_softmax():
    rng = np.random.default_rng(0)
    y, target = 3 * rng.standard_normal((4, 2, 5)), rng.integers(0, 5, (4, 2))
    p = np.exp(y) / np.exp(y).sum(axis=-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, target[..., None], -1)[..., 0])
    np.testing.assert_allclose(cross_entropy(y, target, np), expected, rtol=1e-12)
    slope = elementwise_grad(lambda y: cross_entropy(y, target, anp))(y)
    np.testing.assert_allclose(slope, p - np.eye(5)[target], rtol=1e-10, atol=1e-14)
    huge = cross_entropy(np.array([[1e4, 0.0]]), np.array([1]), np)
    assert huge == pytest.approx(1e4)


def test_squared_error_is_a_mean_over_outputs():
    assert squared_error(np.array([1.0, 3.0]), np.zeros(2), np) == 5
