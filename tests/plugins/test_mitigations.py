"""The shipped mitigations against their formulas."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import numerical_gradient

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.moment import Moment
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import InputError, UnknownNameError
from gradsim.numerics.blocks import dense_blocks
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear
from gradsim_mitigations import (
    Gate,
    JacobianPenalty,
    Leak,
    WeightDecay,
)
from gradsim_tasks import Sunspots


@pytest.mark.parametrize("rate", [1.0 + 1e-12, 1.5, 2, 0.0, -0.1, np.nan, np.inf])
def test_a_leak_outside_its_range_is_refused(rate):
    with pytest.raises(InputError, match=r"Leak: rate should be .* \(got "):
        Leak(rate)


def test_a_leak_of_1_changes_nothing(inputs):
    setting = {"record": ["state", "gradient", "step_jacobian"], "rng": 3}
    plain = gradsim.simulate(Elman(2, 4), inputs, **setting)
    leaking = gradsim.simulate(Elman(2, 4), inputs, mitigations=[Leak(1.0)], **setting)
    for name in plain.data_vars:
        np.testing.assert_allclose(leaking[name], plain[name], rtol=1e-13, atol=1e-16)


def test_weight_decay_value_and_gradient():
    rng = np.random.default_rng(0)
    readout = {"readout_W": rng.standard_normal((1, 3)), "readout_b": np.ones(1)}
    params = Elman(1, 3).init_params(rng) | readout
    setting = {"task": Sunspots(length=20), "params": params, "record": ["gradient", "effective_gradient"]}
    ds = gradsim.simulate(Elman(1, 3), mitigations=[WeightDecay(l2=0.3, l1=0.2)], **setting)
    w, weights = params["U"], [params[n] for n in ("U", "W", "readout_W")]
    penalty = sum(0.15 * np.sum(x**2) + 0.2 * np.abs(x).sum() for x in weights)
    assert ds.attrs["penalty"] == pytest.approx(penalty, rel=1e-14)
    np.testing.assert_allclose(
        ds.effective_gradient_U, ds.gradient_U + 0.3 * w + 0.2 * np.sign(w), rtol=1e-13
    )
    np.testing.assert_array_equal(ds.effective_gradient_b, ds.gradient_b)
    only = gradsim.simulate(Elman(1, 3), mitigations=[WeightDecay(l2=0.3, names=("b",))], **setting)
    np.testing.assert_array_equal(only.effective_gradient_U, only.gradient_U)
    with pytest.raises(UnknownNameError, match=r"'w'; did you mean 'W'\?"):
        gradsim.simulate(Elman(1, 3), mitigations=[WeightDecay(names=("w",))], **setting)


def omega(cell, params, ds, x, adjoint, mitigation):
    """Omega at these parameters, with states and adjoints held fixed."""
    trajectory = Trajectory(cell, params, ds.state.values, x, {})
    jacobians = Jacobians(trajectory.steps, trajectory.call(cell.step_jacobian))
    given = {"trajectory": trajectory, "params": params, "adjoint": adjoint, "jacobians": jacobians}
    nothing = {"cell": cell, "episode": None, "measured": {}, "draws": {}, "moment": Moment()}
    return RunHooks([mitigation])("gradsim_penalty", **given, **nothing)


@pytest.mark.parametrize("cell", [Elman(2, 4), GRU(2, 3), LSTM(2, 3), LRU(2, 3)], ids=lambda c: c.name)
@pytest.mark.parametrize("form", ["ratio", "squared_ratio"])
def test_omega_and_its_immediate_gradient(cell, form, inputs):
    params = cell.init_params(np.random.default_rng(3))
    ds = gradsim.simulate(cell, inputs, params=params, record=["state", "adjoint", "step_jacobian"])
    mitigation, adjoint = JacobianPenalty(weight=0.7, form=form), ds.adjoint.values
    penalty = omega(cell, params, ds, inputs, adjoint, mitigation)
    j = ds.step_jacobian.values
    j = dense_blocks(j if j.ndim == 5 else j[:, :, None])
    carried = np.einsum("tbi,tbij->tbj", adjoint[1:], j)
    ratio = np.linalg.norm(carried, axis=-1) / np.linalg.norm(adjoint[1:], axis=-1)
    power = 1 if form == "ratio" else 2
    assert penalty.value == pytest.approx(0.7 * np.sum((ratio**power - 1) ** 2) / 3, rel=1e-12)
    for name in params:
        expected = numerical_gradient(
            lambda p: omega(cell, p, ds, inputs, adjoint, mitigation).value, params, name
        )
        np.testing.assert_allclose(penalty.gradient[name], expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("c", "ratio", "squared"), [(0.9, 0.2, 0.722), (1.1, 0.2, 0.882), (1.0, 0, 0)])
def test_omega_of_a_scaled_rotation(rng, c, ratio, squared):
    """T (c - 1)^2 and T (c^2 - 1)^2 for T = 20."""
    q, _ = np.linalg.qr(rng.standard_normal((5, 5)))
    params = {"U": c * q, "W": np.zeros((5, 1))}
    for form, expected in (("ratio", ratio), ("squared_ratio", squared)):
        ds = gradsim.simulate(
            Linear(1, 5),
            np.zeros((20, 3, 1)),
            params=params,
            mitigations=[JacobianPenalty(form=form)],
            record=["effective_gradient"],
        )
        assert ds.attrs["penalty"] == pytest.approx(expected, abs=1e-12)


def test_leak_mixes_the_identity_into_the_jacobian(inputs):
    ds = gradsim.simulate(Elman(2, 4), inputs, mitigations=[Leak(0.2)], record=["step_jacobian", "state"])
    params = Elman(2, 4).init_params(np.random.default_rng(np.random.SeedSequence(0, spawn_key=(0,))))
    inner = Elman(2, 4).step_jacobian(params, ds.state.values[:-1], inputs)[:, :, 0]
    np.testing.assert_allclose(ds.step_jacobian, 0.8 * np.eye(4) + 0.2 * inner, rtol=1e-12, atol=1e-15)


def test_a_shut_gate_keeps_state_and_gradient(inputs):
    ds = gradsim.simulate(
        LSTM(2, 3),
        inputs,
        mitigations=[Gate(bias=60.0)],
        initial_state=np.arange(6.0) / 6,
        record=["state", "jacobian_product"],
    )
    np.testing.assert_allclose(ds.state[-1], np.tile(np.arange(6.0) / 6, (3, 1)), atol=1e-12)
    np.testing.assert_allclose(ds.jacobian_product[-1, 0], np.tile(np.eye(6), (3, 1, 1)), atol=1e-12)
