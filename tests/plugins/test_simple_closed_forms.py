"""What is known of cells without gates, or nearly so: closed forms, limits, and one cell as another."""

from __future__ import annotations

import math

import numpy as np
import pytest
from helpers import exponential, refused
from stepping import moved, sigmoid

import gradsim
from gradsim.errors import InputError
from gradsim_cells import (
    IRNN,
    NARX,
    SCRN,
    URNN,
    AntisymmetricRNN,
    ClockworkRNN,
    EchoState,
    Elman,
    ExpRNN,
    FastRNN,
    Jordan,
    LeakyRNN,
    LipschitzRNN,
    RateNetwork,
)
from gradsim_cells.exp_rnn import rotation
from gradsim_optimizers import Adam
from gradsim_tasks import Sunspots

STEPS = 9


def run(cell, params, inputs, first, record=("state", "step_jacobian")):
    """A run of one sequence (steps, input)."""
    return gradsim.simulate(
        cell, inputs[:, None], params=params, initial_state=first[None], record=list(record)
    ).isel(batch=0)


def test_a_leak_of_one_is_the_elman_cell(rng):
    params, x, first = moved(Elman(2, 4), rng), rng.standard_normal((STEPS, 2)), rng.standard_normal(4)
    expected = run(Elman(2, 4), params, x, first)
    for cell in (LeakyRNN(2, 4, 1.0), EchoState(2, 4), NARX(2, 4, (1,)), ClockworkRNN(2, 4, (3, 1)[1:])):
        found = run(cell, params, x, first)
        np.testing.assert_allclose(found.state, expected.state, rtol=1e-13)
        np.testing.assert_allclose(found.step_jacobian, expected.step_jacobian, rtol=1e-12, atol=1e-14)


def test_leaky_units_and_rate_units_are_two_views_of_one_network(rng):
    """With constant inputs W x + U r + b of leaky units r are the currents h (Miller & Fumarola 2012)."""
    params, x = moved(LeakyRNN(2, 4), rng), np.tile(rng.standard_normal(2), (STEPS, 1))
    first = rng.standard_normal(4)

    def currents(r):
        return x[0] @ params["W"].T + r @ params["U"].T + params["b"]

    rates = run(LeakyRNN(2, 4, 0.3), params, x, first).state.values
    found = run(RateNetwork(2, 4, 0.3), params, x, currents(first)).state
    np.testing.assert_allclose(found, currents(rates), rtol=1e-12)


@pytest.mark.parametrize("radius", [0.5, 1.3])
def test_a_reservoir_has_its_spectral_radius_and_its_density(radius, rng):
    u = EchoState(1, 200, radius, density=0.1).init_params(rng)["U"]
    assert np.abs(np.linalg.eigvals(u)).max() == pytest.approx(radius, rel=1e-12)
    assert np.mean(u != 0) == pytest.approx(0.1, abs=0.01)


def test_a_reservoir_without_a_cycle_has_no_eigenvalue_to_scale():
    assert np.isfinite(EchoState(1, 2, density=1e-9).init_params(np.random.default_rng(0))["U"]).all()


def test_only_the_readout_of_a_reservoir_is_trained():
    cell, task = EchoState(1, 10), Sunspots(length=20)
    ds = gradsim.train(cell, task, updates=3, batch=4, optimizer=Adam(0.01))
    first = gradsim.train(cell, task, updates=1, batch=4, optimizer=Adam(0.01))
    for name in ("W", "U", "b"):
        np.testing.assert_array_equal(gradsim.trained_params(ds)[name], gradsim.trained_params(first)[name])
    readouts = (gradsim.trained_params(d)["readout_W"] for d in (ds, first))
    assert not np.array_equal(*readouts)


@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_the_gradient_of_active_identity_units_is_kept(scale, rng):
    cell = IRNN(2, 4, recurrent_scale=scale)
    ds = run(cell, cell.init_params(rng), np.zeros((STEPS, 2)), rng.uniform(1, 2, 4), ["jacobian_product"])
    product = ds.jacobian_product.sel(time=STEPS, source=0)
    np.testing.assert_allclose(product, scale**STEPS * np.eye(4), rtol=1e-14)


@pytest.mark.parametrize("units", [(5, 2), (2, 5)])
def test_what_a_jordan_network_feeds_back_is_a_bottleneck(units, rng):
    cell = Jordan(1, *units)
    ds = run(cell, moved(cell, rng), np.zeros((STEPS, 1)), rng.standard_normal(units[1]))
    assert (np.linalg.matrix_rank(ds.step_jacobian) == 2).all()


def test_the_context_of_an_scrn_decays_by_itself(rng):
    cell = SCRN(2, 3, 2, keep=0.9)
    ds = run(
        cell, moved(cell, rng), rng.standard_normal((STEPS, 2)), rng.standard_normal(5), ["jacobian_product"]
    )
    for lag in range(STEPS + 1):
        context = ds.jacobian_product.sel(time=lag, source=0).values[3:]
        np.testing.assert_allclose(context, np.eye(2, 5, 3) * 0.9**lag, rtol=1e-13, atol=1e-15)


def test_a_single_delay_makes_interleaved_networks(rng):
    cell, x, first = NARX(2, 3, (2,)), rng.standard_normal((STEPS, 2)), rng.standard_normal(6)
    params = moved(cell, rng)
    states = run(cell, params, x, first).state.values[1:, :3]
    for start, h in ((0, first[3:]), (1, first[:3])):
        alone = run(Elman(2, 3), params, x[start::2], h).state[1:]
        np.testing.assert_allclose(states[start::2], alone, rtol=1e-13)


def test_a_fast_network_whose_update_is_off_is_a_multiple_of_the_identity(rng):
    cell = FastRNN(2, 3)
    params = cell.init_params(rng) | {"alpha": np.array([-800.0])}
    ds = run(cell, params, rng.standard_normal((STEPS, 2)), rng.standard_normal(3))
    np.testing.assert_allclose(ds.step_jacobian, np.broadcast_to(sigmoid(3) * np.eye(3), (STEPS, 3, 3)))


def test_a_module_of_a_clockwork_rests_and_sees_no_faster_one(rng):
    cell = ClockworkRNN(1, 4, (1, 3))
    params, x = moved(cell, rng), rng.standard_normal((STEPS, 1))
    ds = run(cell, params, x, rng.standard_normal(4), ["step_jacobian", "gradient", "adjoint"])
    for t, j in enumerate(ds.step_jacobian.values):
        assert (j[2:, :2] == 0).all()
        assert np.array_equal(j[2:, 2:], np.eye(2)) == (t % 3 > 0)
    assert (ds.gradient_U.values[2:, :2] == 0).all()
    assert (ds.gradient_U.values[:2] != 0).all()


@pytest.mark.parametrize("gated", [False, True])
def test_an_antisymmetric_network_neither_grows_nor_decays_but_for_its_diffusion(gated, rng):
    """At h = 0 without inputs J = I + e (U - U^T - g I), or half of it with the gate of 0."""
    cell = AntisymmetricRNN(1, 6, 0.2, 0.03, gated)
    ds = run(cell, cell.init_params(rng), np.zeros((1, 1)), np.zeros(6))
    rates = np.linalg.eigvals((ds.step_jacobian.values[0] - np.eye(6)) / 0.2)
    np.testing.assert_allclose(rates.real, -0.015 if gated else -0.03, atol=1e-14)
    assert np.abs(rates.imag).max() > 0.3


def test_the_linear_part_of_a_lipschitz_network_is_as_skew_as_told(rng):
    """Saturated units leave J = I + e A."""
    for skew, damping in ((1.0, 0.1), (0.0, 0.0)):
        cell = LipschitzRNN(1, 5, 0.1, skew, damping)
        params = cell.init_params(rng) | {"b": np.full(5, 1e3)}
        j = run(cell, params, np.zeros((1, 1)), rng.standard_normal(5)).step_jacobian.values[0]
        a = (j - np.eye(5)) / 0.1
        np.testing.assert_allclose(a + (2 * skew - 1) * a.T, -2 * damping * np.eye(5), atol=1e-13)


@pytest.mark.parametrize("size", [0.01, 1, 25])
def test_the_exponential_is_that_of_the_eigenvalues(size, rng):
    a = rng.standard_normal((6, 6))
    a = size * (a - a.T) / np.linalg.norm(a - a.T, 2)
    np.testing.assert_allclose(rotation(a, np), exponential(a), atol=1e-13)


@pytest.mark.parametrize(("dtype", "close"), [("float64", 1e-13), ("float32", 2e-5)])
@pytest.mark.parametrize("size", [1, 100])
def test_the_exponential_is_orthogonal(size, dtype, close, rng):
    a = rng.standard_normal((20, 20))
    a = size * (a - a.T) / np.linalg.norm(a - a.T, 2)
    u = rotation(a.astype(dtype), np)
    assert u.dtype == dtype
    np.testing.assert_allclose(u @ u.T, np.eye(20), atol=close)


@pytest.mark.parametrize("cell", [ExpRNN(1, 7), URNN(1, 7)], ids=repr)
def test_orthogonal_and_unitary_networks_keep_every_norm(cell, rng):
    m = cell.state_size
    params = moved(cell, rng) | {"b": np.zeros(7)}
    if "P" in params:
        params["P"] = cell.init_params(rng)["P"]
    ds = run(cell, params, np.zeros((50, 1)), rng.standard_normal(m), ["state", "jacobian_product"])
    np.testing.assert_allclose(np.linalg.norm(ds.state, axis=-1), np.linalg.norm(ds.state[0]), rtol=1e-12)
    product = ds.jacobian_product.sel(time=50, source=0).values
    np.testing.assert_allclose(product @ product.T, np.eye(m), atol=1e-12)
    assert np.abs(product - np.eye(m)).max() > 0.3
    silent = run(cell, params, np.zeros((2, 1)), np.zeros(m)).step_jacobian.values
    np.testing.assert_allclose(np.linalg.svd(silent)[1], 1, rtol=1e-12)


def test_modrelu_with_a_negative_bias_never_stretches_a_product(rng):
    for cell in (ExpRNN(2, 6), URNN(2, 6)):
        params = cell.init_params(rng) | {"b": np.full(6, -0.2)}
        ds = run(cell, params, rng.standard_normal((STEPS, 2)), rng.standard_normal(cell.state_size))
        sizes = np.linalg.svd(ds.step_jacobian)[1]
        assert sizes.max() <= 1 + 1e-12
        assert sizes.min() < 0.9


@pytest.mark.parametrize("cell", [ExpRNN(1, 4), URNN(1, 4), AntisymmetricRNN(1, 4)], ids=repr)
def test_weights_are_made_once_for_many_steps(cell, monkeypatch, rng):
    made = []
    weights = type(cell).weights
    monkeypatch.setattr(type(cell), "weights", lambda self, p, xp: made.append(1) or weights(self, p, xp))
    counts = []
    for steps in (10, 20, 200):  # the first run also checks the derivatives
        made.clear()
        gradsim.simulate(cell, rng.standard_normal((steps, 1, 1)), record=["adjoint_norm", "gradient"])
        counts.append(len(made))
    assert counts[1] == counts[2] == 1


def test_the_largest_lyapunov_exponent_of_a_random_network_is_that_of_mean_field_theory(rng):
    """q = g^2 <tanh^2> and lambda = ln(g^2 <(1 - tanh^2)^2>) / 2: 2.1215 and 0.1547 for g = 2."""
    cell, x = RateNetwork(1, 400, 1.0, recurrent_scale=2.0), np.zeros((1, 1))
    params = cell.init_params(rng)
    states = [rng.standard_normal((1, 400))]
    for _ in range(1200):
        states.append(cell.step(params, states[-1], x, np))
    adjoint, growth = rng.standard_normal((1, 400)), 0.0
    for state in states[-1:200:-1]:
        adjoint = cell.state_vjp(params, state, x, adjoint)
        size = np.linalg.norm(adjoint)
        adjoint, growth = adjoint / size, growth + math.log(size) / 1000
    assert np.square(states[200:]).mean() == pytest.approx(2.121474, rel=0.05)
    assert growth == pytest.approx(0.154724, abs=0.006)


def test_what_is_no_clockwork_or_has_no_delay_is_refused():
    with refused(InputError, "ClockworkRNN", "hidden_size=2", "periods"):
        ClockworkRNN(1, 2)
    with refused(InputError, "ClockworkRNN", "periods=()"):
        ClockworkRNN(1, 2, ())
    for delays in ((), (1, 2, 1)):
        with refused(InputError, "NARX", f"delays={delays}"):
            NARX(delays=delays)
    with refused(InputError, "NARX", "delays"):
        NARX(delays=(0,))
    for made in (LeakyRNN, RateNetwork):
        with refused(InputError, made.__name__, "time_step", "1.5"):
            made(time_step=1.5)
