"""A subclass with a `step` of its own has the derivatives of that step, and not those of the class above."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import assert_gradient_of_the_loss, loss_of, numerical_gradient

import gradsim
from gradsim import Cell, Dense, Wrapper
from gradsim.contracts.inherited import WITH_STEP
from gradsim.testing import check_cell
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU, Stack
from gradsim_mitigations.leak import Leaky


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
            return (2 * (1 - half**2)[..., None] * params["U"])[..., None, :, :]

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


@dataclass(frozen=True, eq=False)
class Squashed(Cell):
    """h = gain * phi(U h + W x), with the derivatives of tanh and of a gain of 1."""

    name = "squashed"
    input_size: int = 2
    hidden_size: int = 3

    gain = 1.0

    @property
    def blocks(self):
        return {"h": self.hidden_size}

    def init_params(self, rng):
        n = self.hidden_size
        return {"U": rng.standard_normal((n, n)) / 2, "W": rng.standard_normal((n, self.input_size))}

    @staticmethod
    def phi(a, xp):
        return xp.tanh(a)

    def drive(self, params, state, inputs):
        return state @ params["U"].T + inputs @ params["W"].T

    def step(self, params, state, inputs, xp):
        return gained(self, self.phi(self.drive(params, state, inputs), xp))

    def step_jacobian(self, params, state, inputs):
        slope = 1 - np.tanh(self.drive(params, state, inputs)) ** 2
        return (slope[..., None] * params["U"])[..., None, :, :]

    def state_vjp(self, params, state, inputs, cotangent):
        slope = 1 - np.tanh(self.drive(params, state, inputs)) ** 2
        return (slope * cotangent) @ params["U"]


def gained(cell, x):
    return getattr(cell, "gain") * x  # noqa: B009 - as some would write it


class AnotherUnit(Squashed):
    @staticmethod
    def phi(a, xp):
        return xp.sin(a)


class AnotherGain(Squashed):
    gain = 0.5


class AnotherDrive(Squashed):
    def drive(self, params, state, inputs):
        return 0.5 * super().drive(params, state, inputs)


class Below(AnotherDrive):
    """Nothing of its own."""


class GatedTwice(LSTM):
    name = "gated_twice"

    def unit(self, sums, old, xp):
        h, c = super().unit(sums, old, xp)
        return h * h, c


class Slower(LRU):
    name = "slower"

    def _eigenvalues(self, params, xp):
        a, b = super()._eigenvalues(params, xp)
        return 0.5 * a, 0.5 * b * b


class Reluctant(MinGRU):
    name = "reluctant"

    def _gates(self, params, inputs, xp):
        z, candidate = super()._gates(params, inputs, xp)
        return z * z, xp.tanh(candidate)


class Reset(GRU):
    name = "reset"

    def unit(self, sums, old, xp):
        return super().unit(tuple(0.5 * x for x in sums), old, xp)


class LeakySquares(Leaky):
    def mix(self, own, state, inputs, new, xp):
        return (1 - self.rate) * state + self.rate * new * new


class LeakyStep(Leaky):
    def step(self, params, state, inputs, xp, **data):
        return 0.5 * super().step(params, state, inputs, xp, **data)


class Doubling(Stack):
    name = "doubling"

    def step(self, params, state, inputs, xp, **data):
        return 0.5 * super().step(params, state, inputs, xp, **data)


class Seen(Stack):
    name = "seen"

    def output(self, params, state, inputs, xp):
        return 2 * super().output(params, state, inputs, xp) ** 2


CHANGED = [
    *(kind() for kind in (AnotherUnit, AnotherGain, AnotherDrive, Below)),
    *(kind(2, 3) for kind in (GatedTwice, Slower, Reluctant, Reset)),
    *(kind(LSTM(2, 3), 0.3) for kind in (LeakySquares, LeakyStep)),
    *(kind((Elman(2, 3), Elman(3, 2))) for kind in (Doubling, Seen)),
]


@pytest.mark.parametrize("cell", CHANGED, ids=lambda c: type(c).__name__)
def test_what_a_step_makes_use_of_may_be_changed(cell, inputs):
    assert_gradient_of_the_loss(cell, inputs)
    check_cell(cell)


@pytest.mark.parametrize("cell", CHANGED, ids=lambda c: type(c).__name__)
def test_nothing_analytic_outlives_its_step(cell):
    if isinstance(cell, GatedTwice):  # all that it has is made of its unit
        assert cell.kernel is None
        assert type(cell).slopes is Dense.slopes
    else:
        assert not any(map(cell.analytic, WITH_STEP))


def test_a_changed_mix_is_chained_with_the_cell_inside():
    assert LeakySquares.step_jacobian is Wrapper.step_jacobian
    assert LeakyStep.step_jacobian is Cell.step_jacobian


def test_what_has_nothing_to_do_with_the_step_may_be_changed_and_stays_quick():
    @dataclass(frozen=True, eq=False)
    class Named(LSTM):
        name = "named"
        hidden_size: int = 7

        def init_params(self, rng):
            return super().init_params(rng)

        def draw(self, rng, steps, batch):
            return {}

        def other(self):
            return self.hidden_size

    for method in WITH_STEP:
        assert Named().analytic(method) == LSTM().analytic(method)
