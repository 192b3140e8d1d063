"""Free derivatives: checked at the first use, with a message that says where to look."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass

import autograd.numpy as anp
import numpy as np
import pytest
from autograd.extend import defvjp, primitive

import gradsim
from gradsim import Cell, Episode, Task, Wrapper
from gradsim.contracts.dense import Slopes
from gradsim.errors import DerivativeError, NonFiniteError, PluginError
from gradsim.numerics import autodiff
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU
from gradsim_initializers import Ring
from gradsim_mitigations import Gate, JacobianPenalty


@primitive
def saturate(x):
    return x / (1 + x * x)


defvjp(saturate, lambda ans, x: lambda g: g * 1.001 * (1 - x * x) / (1 + x * x) ** 2)
anp.saturate = saturate
CELLS = [Elman(2, 4, activation="relu"), GRU(2, 4), LSTM(2, 4)]


@dataclass(frozen=True, eq=False)
class OneBlock(Cell):
    """What the cells of this file share: h of size 3."""

    name = "one_block"
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        return {"U": rng.standard_normal((3, 3)), "W": rng.standard_normal((3, 2))}

    def step(self, params, state, inputs, xp):
        return xp.tanh(state @ params["U"].T + inputs @ params["W"].T)


class UsesNumpy(OneBlock):
    def step(self, params, state, inputs, xp):
        return xp.tanh(np.stack((state @ params["U"].T, inputs @ params["W"].T)).sum(axis=0))


class OldName(OneBlock):
    def step(self, params, state, inputs, xp):
        both = xp.concatenate((state, inputs), axis=-1)
        return xp.tanh(both @ xp.concat((params["U"], params["W"]), axis=-1).T)


class Helped(OneBlock):
    """Its step calls functions and methods."""

    def step(self, params, state, inputs, xp):
        return helper(self.drive(params, state, inputs, xp), xp)

    def drive(self, params, state, inputs, xp):
        return xp.sigmoid(state @ params["U"].T) / math.sqrt(2)


def helper(a, xp):
    return np.exp(a) + xp.exp(a)


class ReadsValues(OneBlock):
    """numpy on the hidden values of the trace: no exception, only a derivative that is missing."""

    def step(self, params, state, inputs, xp):
        a = state @ params["U"].T + inputs @ params["W"].T
        return a * np.cos(getattr(a, "_value", a))


class WrongPrimitive(OneBlock):
    """An operation whose registered derivative is wrong by 0.1 %."""

    def step(self, params, state, inputs, xp):
        return saturate(state @ params["U"].T + inputs @ params["W"].T)


class WrongJacobian(OneBlock):
    def step_jacobian(self, params, state, inputs):
        return 1.001 * super().step_jacobian(params, state, inputs)


@dataclass(frozen=True, eq=False)
class Free(Wrapper):
    """The cell inside, with nothing but its step."""

    name = "free"
    cell: Cell

    def step(self, params, state, inputs, xp):
        return self.cell.step(params, state, inputs, xp)


@pytest.mark.parametrize(
    "cell", [Elman(2, 4, activation="relu"), GRU(2, 4), LSTM(2, 4)], ids=lambda c: c.name
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_free_derivatives_are_the_analytic_ones(cell, inputs, dtype):
    params = cell.init_params(np.random.default_rng(0))
    record = ["jacobian_product", "adjoint", "gradient", "contribution"]
    runs = [
        gradsim.simulate(c, inputs, params=params, record=record, dtype=dtype) for c in (cell, Free(cell))
    ]
    tolerance = 1e-12 if dtype == "float64" else 2e-5
    for name in runs[0].data_vars:
        assert runs[1][name].dtype == dtype
        np.testing.assert_allclose(runs[1][name], runs[0][name], rtol=tolerance, atol=tolerance)


def test_the_method_is_in_the_dataset(inputs):
    runs = [gradsim.simulate(c, inputs, derivatives="autograd") for c in (Elman(2, 4), OneBlock())]
    methods = [json.loads(ds.attrs["provenance"])["derivatives_of"]["step_jacobian"] for ds in runs]
    assert methods == ["analytic", "autograd"]


def test_numpy_in_a_step_is_named(inputs):
    message = (
        r"UsesNumpy\(input_size=2\): step\(\) cannot be traced .*; use xp.stack in place of np.stack "
        r"\(line \d+\)"
    )
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(UsesNumpy(), inputs)


def test_an_old_name_of_numpy_is_named(inputs):
    message = (
        r"no name of the array API standard.*; use xp.concat in place of xp.concatenate "
        r"\(line \d+\)"
    )
    with pytest.raises(PluginError, match=message):
        gradsim.simulate(OldName(), inputs, derivatives="autograd")


def test_advice_reaches_helpers_and_cells_inside():
    found = {use.call for use in autodiff.uses(Free(Helped()).step) if use.cure}
    assert found == {"np.exp", "xp.sigmoid", "math.sqrt"}


def test_numpy_behind_the_back_of_the_trace_is_named(inputs):
    with pytest.raises(
        DerivativeError,
        match=r"differs from central differences .*; use xp.cos in place of np.cos \(line \d+\)",
    ):
        gradsim.simulate(ReadsValues(), inputs)


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
        r"step_jacobian\(\) raised KeyError: unknown name 'w'; did you mean 'W'.*test_derivatives.py:\d+\)",
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


class Assigns(OneBlock):
    def step(self, params, state, inputs, xp):
        new = super().step(params, state, inputs, xp)
        new[..., 0] = 0.5
        return new


class Fills(OneBlock):
    def step(self, params, state, inputs, xp):
        new = xp.zeros_like(state)
        new[..., 0] = super().step(params, state, inputs, xp)[..., 0]
        return new


class RaisesInATrace(OneBlock):
    def step(self, params, state, inputs, xp):
        return super().step(params, state, inputs, xp) / (1 if isinstance(state, np.ndarray) else {}["one"])


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (Assigns, r"step\(\) cannot be traced \(TypeError: .*; make a new array, by xp.where or xp.concat"),
        (Fills, r"step\(\) cannot be traced \(ValueError: .*; make a new array, by xp.stack or xp.concat"),
        (RaisesInATrace, r"step\(\) raised KeyError: unknown name 'one'.* \(.*test_derivatives.py:\d+\)"),
    ],
)
def test_a_step_that_cannot_be_traced_says_what_to_write(kind, message, inputs):
    from gradsim.testing import check_cell

    with pytest.raises(PluginError, match=rf"^{kind.__name__}\(input_size=2\): {message}"):
        gradsim.simulate(kind(), inputs)
    with pytest.raises(AssertionError, match=kind.__name__):
        check_cell(kind())


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


def refused(cell, std, seed, **options):
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
    assert [e for seed in range(SEEDS[seeds]) if (e := refused(UpdateGate(), std, seed))] == []


@pytest.mark.parametrize("seeds", ["few", pytest.param("many", marks=pytest.mark.long)])
def test_a_gate_around_a_linear_cell_is_no_false_alarm(seeds):
    found = (refused(Linear(), 1, seed, mitigations=[Gate()]) for seed in range(4 * SEEDS[seeds]))
    assert list(filter(None, found)) == []


@pytest.mark.parametrize("std", [1, 5, 20])
def test_a_wrong_derivative_of_a_saturated_gate_is_refused(std):
    """By 0.1 %, wherever something comes through the gate."""
    assert all(refused(UpdateGate(wrong=1.001), std, seed) for seed in range(12))


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
    cell = Free(Elman(2, 4, activation="relu"))
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


class Overflows(OneBlock):
    """A sigmoid whose derivative by autograd is 0 * infinity far out."""

    def step(self, params, state, inputs, xp):
        return 1 / (1 + xp.exp(-(state @ params["U"].T + inputs @ params["W"].T)))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("record", "message"),
    [
        (
            "adjoint_norm",
            r"derivative of the step with respect to the state is NaN or infinite at step \d+, batch",
        ),
        (
            "gradient",
            r"derivative of the step with respect to the state is NaN or infinite at step \d+, batch",
        ),
        ("product_norm", r"the step Jacobian is not finite, first at step 1, batch 0"),
    ],
)
def test_a_derivative_that_is_not_finite_is_no_result(record, message, dtype):
    inputs = np.zeros((12, 2, 2))
    inputs[:, 0] = 1e4
    params = {"U": np.eye(3), "W": -np.ones((3, 2))}
    with pytest.raises(NonFiniteError, match=rf"Overflows\(.*{message}.*a sigmoid that never is"):
        gradsim.simulate(Overflows(), inputs, params=params, record=[record], dtype=dtype)


@dataclass(frozen=True, eq=False)
class Far(Task):
    """A loss at the last step alone, whose slope is 2**22 for each unit."""

    name = "far"
    readout = False
    input_size = 1
    output_size = None

    def sample(self, rng, batch):
        weights = np.array([0.0, 0.0, 1.0])[:, None] * np.ones((3, batch))
        return Episode(np.zeros((3, batch, 1)), np.full((3, batch, 2), -(2.0**22)), weights)

    def loss(self, outputs, targets, xp):
        return gradsim.squared_error(outputs, targets, xp)


@pytest.mark.filterwarnings("ignore::gradsim.errors.OutOfRangeWarning")  # the sizes are in the log10 twin
@pytest.mark.parametrize(("dtype", "power"), [("float32", 120), ("float64", 1010)])
def test_a_large_adjoint_and_a_large_derivative_are_multiplied_all_the_same(dtype, power):
    cell = Linear(1, 2)
    params = {"U": 2.0**power * np.eye(2), "W": np.zeros((2, 1))}
    found = gradsim.simulate(cell, task=Far(), params=params, record=["adjoint_norm"], dtype=dtype)
    sizes = found.adjoint_norm_log10.isel(batch=0).values
    np.testing.assert_allclose(sizes, math.log10(2) * (22.5 + power * np.array([3, 2, 1, 0])), rtol=1e-6)


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
