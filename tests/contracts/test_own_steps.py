"""A subclass with a `step` of its own has the derivatives of that step, and not those of the class above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import loss_of, numerical_gradient

import gradsim
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU


@pytest.mark.parametrize("kind", [Elman, Linear, GRU, LSTM, MinGRU, LRU])
def test_gradients_are_those_of_the_new_step(kind, inputs):
    class Halved(kind):
        name = "halved"

        def step(self, params, state, inputs, xp):
            return 0.5 * super().step(params, state, inputs, xp)

    cell = Halved(2, 4)
    assert not any(map(cell.analytic, ("unroll", "step_jacobian", "state_vjp", "params_vjp", "bilinear_vjp")))
    params = cell.init_params(np.random.default_rng(0))
    ds = gradsim.simulate(cell, inputs, params=params, record=["gradient"])
    for name in params:
        expected = numerical_gradient(lambda p: loss_of(cell, p, inputs=inputs), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-5, atol=1e-7)


def test_a_step_may_come_from_beside():
    class Halves:
        def step(self, params, state, inputs, xp):
            return 0.5 * super().step(params, state, inputs, xp)

    class Halved(Halves, LSTM):
        name = "halved"

    assert not Halved().analytic("state_vjp")
    check_cell(Halved(input_size=2, hidden_size=3))


def test_the_new_class_may_bring_its_own_derivatives():
    @dataclass(frozen=True, eq=False)
    class Doubled(Elman):
        name = "doubled"

        def step(self, params, state, inputs, xp):
            return 2 * super().step(params, state, inputs, xp)

        def step_jacobian(self, params, state, inputs):
            half = super().step(params, state, inputs, np)
            return (2 * (1 - half**2)[..., None] * params["W"])[..., None, :, :]

    class Named(Doubled):
        name = "named"

    for cell in (Doubled(2, 4), Named(2, 4)):
        assert cell.analytic("step_jacobian")
        assert not cell.analytic("state_vjp")
        check_cell(cell)


def test_a_class_that_keeps_the_step_keeps_the_derivatives():
    class Wide(LSTM):
        name = "wide"

    assert Wide().analytic("unroll")
    assert Wide().analytic("state_vjp")
    assert Wide().saved_size == LSTM().saved_size
