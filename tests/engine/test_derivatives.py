"""Free derivatives: those by hand, and what to write where they cannot be made."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from helpers import OneBlock, Stripped

import gradsim
from gradsim.errors import DerivativeError, NonFiniteError, PluginError
from gradsim.numerics import autodiff
from gradsim_cells import GRU, LSTM, Elman

CELLS = [Elman(2, 4, activation="relu"), GRU(2, 4), LSTM(2, 4)]


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


@pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_free_derivatives_are_the_analytic_ones(cell, inputs, dtype):
    params = cell.init_params(np.random.default_rng(0))
    record = ["jacobian_product", "adjoint", "gradient", "contribution"]
    runs = [
        gradsim.simulate(c, inputs, params=params, record=record, dtype=dtype) for c in (cell, Stripped(cell))
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
    found = {use.call for use in autodiff.uses(Stripped(Helped()).step) if use.cure}
    assert found == {"np.exp", "xp.sigmoid", "math.sqrt"}


def test_numpy_behind_the_back_of_the_trace_is_named(inputs):
    with pytest.raises(
        DerivativeError,
        match=r"differs from central differences .*; use xp.cos in place of np.cos \(line \d+\)",
    ):
        gradsim.simulate(ReadsValues(), inputs)


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
