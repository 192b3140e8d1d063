"""Derivatives are checked at their first use: what is wrong is named, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import autograd.numpy as anp
import numpy as np
import pytest
from autograd.extend import defvjp, primitive
from helpers import OneBlock, Stripped

import gradsim
from gradsim import Cell, Wrapper
from gradsim.contracts.dense import Slopes
from gradsim.errors import DerivativeError, PluginError
from gradsim.numerics import autodiff
from gradsim_cells import LRU, Elman, Linear, MinGRU
from gradsim_initializers import Ring
from gradsim_mitigations import Gate, JacobianPenalty


@primitive
def saturate(x):
    return x / (1 + x * x)


defvjp(saturate, lambda ans, x: lambda g: g * 1.001 * (1 - x * x) / (1 + x * x) ** 2)
anp.saturate = saturate


class WrongPrimitive(OneBlock):
    """An operation whose registered derivative is wrong by 0.1 %."""

    def step(self, params, state, inputs, xp):
        return saturate(state @ params["U"].T + inputs @ params["W"].T)


class WrongJacobian(OneBlock):
    def step_jacobian(self, params, state, inputs):
        return 1.001 * super().step_jacobian(params, state, inputs)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_wrong_derivative_of_an_operation_is_refused(inputs, dtype):
    with pytest.raises(DerivativeError, match="autograd's derivative of what it computes is not that of"):
        gradsim.simulate(WrongPrimitive(), inputs, dtype=dtype, derivatives="autograd")


def brings(**methods):
    return type("Brings", (OneBlock,), methods)()


class Softer(Elman):
    """The slopes of another unit."""

    def slopes(self, sums, old, data):
        return Slopes([(0, 0, 1 / (1 + np.abs(sums[None])) ** 2)], [], [])


class Further(Elman):
    def unroll(self, params, state, inputs, step_data, parallel):
        taken = super().unroll(params, state, inputs, step_data, parallel)
        taken.states[1:] *= 1.001
        return taken


OWN_WRONG = {
    "a wrong Jacobian": (
        WrongJacobian(),
        r"WrongJacobian\(.*: step_jacobian differs from central .*; mend Wrong",
    ),
    "a Jacobian of another shape": (
        brings(step_jacobian=lambda self, params, state, inputs: params["U"]),
        r"Brings\(.*: step_jacobian\(\) has shape \(3, 3\) where \(1, 4, 1, 3, 3\) is needed",
    ),
    "no Jacobian": (
        brings(step_jacobian=lambda self, params, state, inputs: None),
        r"step_jacobian\(\) is None, where an array of shape",
    ),
    "a Jacobian that raises": (
        brings(step_jacobian=lambda self, params, state, inputs: params["w"]),
        r"step_jacobian\(\) raised KeyError: unknown name 'w'; did you mean 'W'.*test_checking.py:\d+\)",
    ),
    "a vjp of another shape": (
        brings(state_vjp=lambda self, params, state, inputs, u: u[..., :2]),
        r"state_vjp\(\) has shape \(1, 4, 2\) where \(1, 4, 3\) is needed",
    ),
    "a vjp without data": (
        brings(state_vjp=lambda self, params, state: state),
        r"state_vjp\(\) raised TypeError: .* positional arguments but",
    ),
    "a vjp of other names": (
        brings(params_vjp=lambda self, params, state, inputs, u: {"w": params["U"]}),
        r"params_vjp\(\) gives \['w'\] for the parameters \['U', 'W'\]",
    ),
    "a vjp that is no dict": (
        brings(params_vjp=lambda self, params, state, inputs, u: u),
        r"params_vjp\(\) gives an array of float64 for the parameters \['U', 'W'\]",
    ),
    "other slopes": (
        Softer(2, 3),
        r"Softer\(.*: step_jacobian differs from central differences of step\(\) by .*; mend Softer.slopes",
    ),
    "other states at once": (
        Further(2, 3),
        r"Further\(.*: the states of unroll\(\) differ by .* from those of single steps; mend Further.unroll",
    ),
}


@pytest.mark.parametrize("case", OWN_WRONG)
def test_what_a_cell_brings_along_is_checked_at_its_first_run(case, inputs):
    from gradsim.testing import check_cell

    cell, message = OWN_WRONG[case]
    for _ in range(2):
        with pytest.raises(PluginError, match=message):
            gradsim.simulate(cell, inputs)
    with pytest.raises(AssertionError, match=type(cell).__name__):
        check_cell(cell)


def test_what_has_been_checked_is_not_checked_again(inputs):
    class Counts(Elman):
        name, asked = "counts", 0

        def step_jacobian(self, params, state, inputs):
            type(self).asked += 1
            return super().step_jacobian(params, state, inputs)

    for expected in (1, 1):
        gradsim.simulate(Counts(2, 3), inputs, record=["state"])
        assert Counts.asked == expected
    gradsim.simulate(Counts(2, 4), inputs, record=["state"])
    assert Counts.asked == 2


@dataclass(frozen=True, eq=False)
class UpdateGate(Cell):
    """As in the README; large inputs saturate its gate, and leave its state large."""

    name = "update_gate"
    input_size: int = 3
    wrong: float = 1.0

    @property
    def blocks(self):
        return {"h": self.input_size}

    def init_params(self, rng):
        return {"U": rng.standard_normal((self.input_size, self.input_size))}

    def step(self, params, state, inputs, xp):
        u = 1 / (1 + xp.exp(-(state @ params["U"].T + inputs)))
        u = autodiff.surrogate(u, self.wrong * u)
        return u * state + (1 - u) * xp.tanh(inputs)


def blamed(cell, std, seed, **options):
    rng = np.random.default_rng(seed)
    inputs = std * rng.standard_normal((20, 3, cell.input_size))
    try:
        gradsim.simulate(cell, inputs, rng=seed, record=["gradient"], **options)
    except DerivativeError as error:
        return str(error)
    return None


SEEDS = {"few": 12, "many": 200}


@pytest.mark.parametrize("seeds", ["few", pytest.param("many", marks=pytest.mark.long)])
@pytest.mark.parametrize("std", [1, 5, 20, 100])
def test_saturated_gates_are_no_false_alarm(std, seeds):
    """Nor does NumPy warn of what overflows inside on the way."""
    assert [e for seed in range(SEEDS[seeds]) if (e := blamed(UpdateGate(), std, seed))] == []


@pytest.mark.parametrize("seeds", ["few", pytest.param("many", marks=pytest.mark.long)])
def test_a_gate_around_a_linear_cell_is_no_false_alarm(seeds):
    found = (blamed(Linear(), 1, seed, mitigations=[Gate()]) for seed in range(4 * SEEDS[seeds]))
    assert list(filter(None, found)) == []


@pytest.mark.parametrize("std", [1, 5, 20])
def test_a_wrong_derivative_of_a_saturated_gate_is_refused(std):
    """By 0.1 %, wherever something comes through the gate."""
    assert all(blamed(UpdateGate(wrong=1.001), std, seed) for seed in range(12))


class Buried(OneBlock):
    """What it makes of state and parameters lies below the rounding of its state."""

    def step(self, params, state, inputs, xp):
        return 1e10 + 1e-4 * super().step(params, state - 1e10, inputs, xp)


def test_what_could_not_be_checked_is_in_the_dataset(inputs):
    ds = gradsim.simulate(Buried(), inputs)
    assert ds.attrs["derivatives_not_checked"].startswith("step_jacobian, state_vjp, params_vjp")
    assert "derivatives_not_checked" not in gradsim.simulate(OneBlock(), inputs).attrs


def test_a_kink_is_no_false_alarm():
    """relu at exactly 0 has no derivative: zero input and state must not be refused."""
    cell = Stripped(Elman(2, 4, activation="relu"))
    ds = gradsim.simulate(cell, np.zeros((5, 2, 2)), record=["product_norm"])
    assert np.isfinite(ds.product_norm[4, 1]).all()


class WrongGroups(OneBlock):
    jacobian_groups = 3


def test_units_mixed_between_groups_are_named(inputs):
    with pytest.raises(DerivativeError, match="jacobian_groups are 3, and a step that mixes units"):
        gradsim.simulate(WrongGroups(), inputs)


def test_what_swings_faster_than_differences_can_see_is_not_blamed():
    cell = LRU(2, 4, recurrent_init=Ring(r_max=0.9))  # no other test has tried it
    params = cell.init_params(np.random.default_rng(0)) | {"theta": np.full(4, 120.0)}
    ds = gradsim.simulate(cell, np.ones((5, 2, 2)), params=params, record=["gradient"])
    assert np.isfinite(ds.gradient_theta).all()


class Cut(OneBlock):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) + 0.1 * gradsim.detach(state)


@dataclass(frozen=True, eq=False)
class Centred(Wrapper):
    """Mixes units, and does not say so."""

    name = "centred"

    cell: Cell

    def mix(self, own, state, inputs, new, xp):
        return new - 0.1 * xp.mean(state, axis=-1, keepdims=True)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        (Cut(), r"its step is cut by detach\(\); if that is on purpose, say exact = False in the class$"),
        (
            Centred(MinGRU(2, 3)),
            r"its jacobian_groups are 3, .*; or .* is not that of step\(\): xp.mean, xp.tanh$",
        ),
    ],
)
def test_a_derivative_that_is_cut_and_units_that_a_wrapper_mixes_are_named(cell, message, inputs):
    with pytest.raises(DerivativeError, match=message):
        gradsim.simulate(cell, inputs)


class WrongTwice(Elman):
    """Its second derivatives are wrong by one per cent."""

    def bilinear_vjp(self, params, state, inputs, left, right):
        own, states = super().bilinear_vjp(params, state, inputs, left, right)
        return {n: 1.01 * p for n, p in own.items()}, states


def test_second_derivatives_are_checked_where_a_penalty_asks_for_them(inputs):
    gradsim.simulate(WrongTwice(2, 3), inputs)
    for _ in range(2):
        with pytest.raises(
            DerivativeError, match=r"^WrongTwice\(.*: bilinear_vjp\(\)\[0\]\['\w'\] differs by .*; mend"
        ):
            gradsim.simulate(
                WrongTwice(2, 3), inputs, mitigations=[JacobianPenalty()], record=["effective_gradient"]
            )
    for activation in ("tanh", "relu", "logistic"):
        cell = Elman(2, 3, activation=activation)
        gradsim.simulate(cell, inputs, mitigations=[JacobianPenalty()], record=["effective_gradient"])
