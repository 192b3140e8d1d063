"""Mitigations that say how parameters start."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from helpers import refused

import gradsim
from gradsim.contracts.hooks import RunHooks
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import GRU, JANET, LRU, LSTM, MGU, Elman, ExpRNN, IndRNN, LiGRU, Linear, MinGRU, Stack
from gradsim_initializers import Chrono, Forget, Identity, Orthogonal
from gradsim_mitigations import (
    ChronoInit,
    CriticalInit,
    ForgetBiasInit,
    Gate,
    IdentityInit,
    Leak,
    OrthogonalInit,
    SpectralNorm,
)
from gradsim_optimizers import SGD
from gradsim_tasks import CopyMemory

test_those_of_gates_keep_the_contract = conformance(
    ForgetBiasInit(3.0), ChronoInit(20.0), cell=LSTM(input_size=2, hidden_size=3)
)
test_those_of_gates_do_so_at_the_cell_of_the_kit = conformance(ChronoInit(), ForgetBiasInit())
test_those_of_weights_keep_the_contract = conformance(OrthogonalInit(0.5), IdentityInit(0.5))

TOLD = {
    "orthogonal": (OrthogonalInit(0.9), {"recurrent_init": Orthogonal(), "recurrent_scale": 0.9}),
    "identity": (IdentityInit(0.5), {"recurrent_init": Identity(), "recurrent_scale": 0.5}),
    "forget": (ForgetBiasInit(3.0), {"bias_init": Forget(3.0)}),
    "chrono": (ChronoInit(50.0), {"bias_init": Chrono(50.0)}),
}


def first(cell, *mitigations, inputs=None):
    inputs = np.random.default_rng(5).standard_normal((20, 3, cell.input_size)) if inputs is None else inputs
    hooks = RunHooks(mitigations)
    cell = hooks("gradsim_cell", cell=cell)
    return hooks("gradsim_params", cell=cell, inputs=inputs, rng=np.random.default_rng(1))


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value, err_msg=name)


@pytest.mark.parametrize("name", TOLD)
@pytest.mark.parametrize("cls", [GRU, LSTM, LiGRU, JANET], ids=lambda cls: cls.name)
def test_a_cell_starts_as_if_it_had_been_told_itself(cls, name):
    mitigation, options = TOLD[name]
    same(first(cls(2, 5), mitigation), first(cls(2, 5, **options)))


@pytest.mark.parametrize("name", ["identity", "forget"])
def test_layers_start_as_if_they_had_been_told_themselves(name):
    mitigation, options = TOLD[name]
    told = Stack((GRU(2, 4, **options), LSTM(4, 3, **options)))
    same(first(Stack((GRU(2, 4), LSTM(4, 3))), mitigation), first(told))


def test_a_gate_around_a_cell_starts_with_it():
    params, plain = first(Elman(2, 5), Gate(), OrthogonalInit(1.5)), first(Elman(2, 5), Gate())
    for name in ("U", "gated1_U"):
        np.testing.assert_allclose(params[name].T @ params[name], 2.25 * np.eye(5), atol=1e-13)
    others = params.keys() - {"U", "gated1_U"}
    same({n: params[n] for n in others}, {n: plain[n] for n in others})


def test_what_is_made_of_parameters_starts_as_they_do():
    same(first(LSTM(2, 5), SpectralNorm(), ChronoInit(30.0)), first(LSTM(2, 5), ChronoInit(30.0)))


@pytest.mark.parametrize(
    ("value", "half"), [(0.0, 1.0), (1.0, 2.21268), (2.0, 5.461), (3.0, 14.266), (5.0, 103.218)]
)
def test_a_forget_bias_keeps_its_share(value, half):
    """The half-lives of 1 / (1 + exp(-b))^t, as for Jozefowicz et al. (2015)."""
    params = {n: p if n == "b" else 0 * p for n, p in first(LSTM(1, 4), ForgetBiasInit(value)).items()}
    ds = gradsim.simulate(LSTM(1, 4), np.zeros((10, 1, 1)), params=params, record=["jacobian_product"])
    kept = np.diagonal(ds.jacobian_product.values[-1, 0, 0])[4:]
    np.testing.assert_allclose(kept, 1 / (1 + np.exp(-value)) ** 10, rtol=1e-12)
    np.testing.assert_allclose(10 * np.log(0.5) / np.log(kept), half, rtol=1e-4)


def test_a_gate_that_admits_closes_instead():
    b = first(MGU(2, 4), ForgetBiasInit(2.0))["b"].reshape(2, 4)
    assert sorted(b[:, 0]) == [-2, 0]


@pytest.mark.parametrize(("longest", "left"), [(10, 0.34867844), (100, 0.36603234), (784, 0.36764470)])
def test_a_unit_of_the_longest_memory_keeps_one_in_e(longest, left):
    """(1 - 1/T)^T for u = T - 1, from Tallec & Ollivier (2018), and u uniform below that."""
    bias = first(LSTM(1, 2000), ChronoInit(float(longest)))["b"].reshape(4, -1)
    u = np.exp(bias[1])
    assert 1 <= u.min() < 1 + 0.01 * longest
    assert 0.99 * (longest - 1) < u.max() <= longest - 1
    assert u.mean() == pytest.approx(longest / 2, rel=0.05)
    assert (u.max() / (1 + u.max())) ** longest == pytest.approx(left, rel=0.02)
    np.testing.assert_array_equal(bias[0], -bias[1])


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_relu_units_at_the_identity_keep_the_gradient(scale):
    """Le, Jaitly & Hinton (2015): J = scale * I where all units are active."""
    ds = gradsim.simulate(
        Elman(1, 6, activation="relu"),
        np.zeros((12, 2, 1)),
        initial_state=np.ones(6),
        mitigations=[IdentityInit(scale)],
        record=["product_spectrum"],
    )
    np.testing.assert_allclose(ds.product_spectrum[-1, 0, 0], scale**12, rtol=1e-14)


@pytest.mark.parametrize("cell", [Elman(2, 5), LSTM(2, 5), GRU(2, 5)], ids=lambda c: c.name)
def test_an_orthogonal_start_makes_each_block_orthogonal(cell):
    for block in first(cell, OrthogonalInit(1.5))["U"].reshape(-1, 5, 5):
        np.testing.assert_allclose(block.T @ block, 2.25 * np.eye(5), atol=1e-13)


def test_an_orthogonal_start_keeps_a_linear_gradient():
    ds = gradsim.simulate(
        Linear(1, 20), np.zeros((100, 1, 1)), mitigations=[OrthogonalInit()], record=["product_spectrum"]
    )
    np.testing.assert_allclose(ds.product_spectrum[-1, 0, 0], 1, rtol=1e-12)


# The critical scale.


def scale_of(cell, *mitigations, inputs=None):
    plain = first(cell, *mitigations, inputs=inputs)
    found = first(cell, *mitigations, CriticalInit(), inputs=inputs)
    ratio = (found["U"] / plain["U"]).ravel()
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-14)
    same(found, plain | {"U": found["U"]})
    return ratio[0]


def test_a_linear_cell_is_critical_at_one_over_its_singular_values():
    assert scale_of(Linear(1, 20), OrthogonalInit(0.3)) == pytest.approx(1 / 0.3, rel=1e-5)
    assert scale_of(Linear(1, 20), OrthogonalInit(7.0)) == pytest.approx(1 / 7, rel=1e-5)


def test_orthogonal_steps_are_critical_as_they_are():
    same(first(ExpRNN(2, 5), CriticalInit()), first(ExpRNN(2, 5)))
    assert scale_of(Linear(1, 20), OrthogonalInit()) == 1


@pytest.mark.parametrize(("variance", "critical"), [(0.1, 1.4092809), (0.25, 1.5496739), (1.0, 1.8555891)])
def test_random_networks_are_critical_where_mean_field_theory_says(variance, critical):
    """Chen, Pennington & Schoenholz (2018): chi = 1, by quadrature of their equations, for tanh units."""
    inputs = np.random.default_rng(2).standard_normal((100, 4, 100))
    cell = Elman(100, 300)
    weights = first(cell, inputs=inputs)["W"]
    inputs *= np.sqrt(variance / (100 * np.mean(inputs**2) * np.mean(weights**2)))
    assert scale_of(cell, inputs=inputs) == pytest.approx(critical, rel=0.02)


@pytest.mark.parametrize("cell", [Elman(2, 20), GRU(2, 20), LSTM(2, 20)], ids=lambda c: c.name)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_leading_exponent_is_zero_there(cell, dtype):
    inputs = np.random.default_rng(3).standard_normal((400, 8, 2))
    plain, tuned = (
        gradsim.simulate(cell, inputs, mitigations=chosen, dtype=dtype, record=["leading_lyapunov"])
        for chosen in ([], [CriticalInit()])
    )
    assert plain.leading_lyapunov.mean() < -0.05
    assert abs(tuned.leading_lyapunov.mean()) < 0.015


def test_a_training_starts_at_the_scale_of_its_first_batch():
    task, chosen = CopyMemory(delay=10), [CriticalInit()]
    cell = Elman(task.input_size, 12)
    settings = {"optimizer": SGD(0.1), "batch": 5, "updates": 1, "rng": 3}
    training = gradsim.prepare_training(cell, task, mitigations=chosen, **settings).setup
    inputs = training.batches.episode(1).inputs
    same(training.params, gradsim.prepare(cell, inputs, mitigations=chosen, rng=3).setup.params)
    assert not np.array_equal(training.params["U"], gradsim.prepare(cell, inputs, rng=3).setup.params["U"])


def test_where_there_is_no_critical_scale_it_says_so():
    """Inputs that saturate all units leave nothing of a gradient, whatever the weights."""
    with refused(InputError, "from 2^-10 to 2^10, gradients vanish: by exp(-inf) to exp("):
        first(Elman(2, 3), CriticalInit(), inputs=np.full((50, 1, 2), 1e6))


# What is refused.


@pytest.mark.parametrize(
    ("cell", "mitigation", "message"),
    [
        (MinGRU(2, 3), OrthogonalInit(), "orthogonal_init: min_gru has no weight matrix for the state"),
        (IndRNN(2, 3), CriticalInit(), "critical_init: ind_rnn has no weight matrix for the state"),
        (LRU(2, 3), ChronoInit(), "chrono_init: lru has no biases"),
        (
            Elman(2, 3),
            ChronoInit(),
            "chrono_init: elman cannot start so; Chrono(longest=100.0): the cell has no gate",
        ),
        (
            Elman(2, 3),
            ForgetBiasInit(),
            "forget_bias_init: elman cannot start so; Forget(value=1.0): the cell has no gate",
        ),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_what_cannot_start_so_is_refused(cell, mitigation, message):
    with refused(InputError, message, "leave it out"):
        gradsim.simulate(cell, np.zeros((5, 1, 2)), mitigations=[mitigation])


@dataclass(frozen=True, eq=False)
class Weighs(Elman):
    """Sees the weights of the loss."""

    name = "weighs"

    def step(self, params, state, inputs, xp, *, weights):
        return weights[..., None] * super().step(params, state, inputs, xp)


def test_a_step_that_depends_on_the_task_has_no_critical_scale():
    task = CopyMemory(delay=3)
    with refused(InputError, "critical_init: the steps of weighs depend on 'weights' of the task"):
        gradsim.simulate(Weighs(task.input_size, 5), task=task, mitigations=[CriticalInit()])


def test_parameters_that_are_given_leave_nothing_to_start():
    cell, x, chosen = Elman(2, 3), np.zeros((5, 1, 2)), [Leak(0.5), OrthogonalInit()]
    with refused(InputError, "orthogonal_init says how parameters start, and params are given"):
        gradsim.simulate(cell, x, params=first(cell), mitigations=chosen)
