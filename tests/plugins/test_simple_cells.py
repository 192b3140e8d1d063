"""The cells without gates, or nearly so: each against a loop from its paper, closed forms, and the kit."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers import refused
from stepping import moved, sigmoid

import gradsim
from gradsim.errors import InputError
from gradsim.testing import conformance
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
    FastGRNN,
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


# What the papers say, for one sequence x (steps, input): the state after each step.


def leaky(cell, p, h, x):
    phi = {"tanh": np.tanh, "relu": lambda a: np.maximum(a, 0), "logistic": sigmoid}[cell.activation]
    for u in x:
        rate = phi(p["W"].dot(u) + p["U"].dot(h) + p["b"])
        h = h + cell.time_step * (rate - h)
        yield h


def echo_state(cell, p, h, x):
    for u in x:
        h = h + cell.leak * (np.tanh(p["W"].dot(u) + p["U"].dot(h) + p["b"]) - h)
        yield h


def irnn(cell, p, h, x):
    for u in x:
        h = np.maximum(p["W"].dot(u) + p["U"].dot(h) + p["b"], 0)
        yield h


def rate_network(cell, p, h, x):
    for u in x:
        change = -h + p["U"].dot(np.tanh(h)) + p["W"].dot(u) + p["b"]
        h = h + cell.time_step * change
        yield h


def jordan(cell, p, y, x):
    g = {"identity": lambda a: a, "tanh": np.tanh, "logistic": sigmoid}[cell.reading]
    for u in x:
        hidden = np.tanh(p["W"].dot(u) + p["U"].dot(y) + p["b"])
        y = g(p["V"].dot(hidden) + p["c"])
        yield y


def scrn(cell, p, state, x):
    h, s = np.split(state, [cell.hidden_size])
    for u in x:
        s = cell.keep * s + (1 - cell.keep) * p["B"].dot(u)
        h = sigmoid(p["P"].dot(s) + p["W"].dot(u) + p["U"].dot(h))
        yield np.concatenate((h, s))


def narx(cell, p, state, x):
    n, longest = cell.hidden_size, max(cell.delays)
    past = [state[i * n : (i + 1) * n] for i in range(longest)]
    seen = list(state[longest * n :].reshape(-1, cell.input_size))
    for u in x:
        a, seen = p["b"].copy(), [u, *seen]
        for i, d in enumerate(cell.delays):
            a += p["U"].reshape(-1, n, n)[i].dot(past[d - 1])
        for i, before in enumerate(seen):
            a += p["W"].reshape(-1, n, cell.input_size)[i].dot(before)
        past, seen = [np.tanh(a), *past[:-1]], seen[: cell.input_delays]
        yield np.concatenate((*past, *seen))


def fast_rnn(cell, p, h, x):
    for u in x:
        candidate = np.tanh(p["W"].dot(u) + p["U"].dot(h) + p["b"])
        h = sigmoid(p["alpha"][0]) * candidate + sigmoid(p["beta"][0]) * h
        yield h


def fast_grnn(cell, p, h, x):
    for_gate, for_candidate = np.split(p["b"], 2)
    for u in x:
        shared = p["W"].dot(u) + p["U"].dot(h)
        z = sigmoid(shared + for_gate)
        weight = sigmoid(p["zeta"][0]) * (1 - z) + sigmoid(p["nu"][0])
        h = weight * np.tanh(shared + for_candidate) + z * h
        yield h


def clockwork(cell, p, h, x):
    n, modules = cell.hidden_size, len(cell.periods)
    module = [unit * modules // n for unit in range(n)]
    for t, u in enumerate(x):
        new = h.copy()
        for i in range(n):
            if t % cell.periods[module[i]] == 0:
                slower = [j for j in range(n) if cell.periods[module[j]] >= cell.periods[module[i]]]
                new[i] = math.tanh(p["W"][i].dot(u) + p["U"][i, slower].dot(h[slower]) + p["b"][i])
        h = new
        yield h


def antisymmetric(cell, p, h, x):
    turn = p["U"] - p["U"].T - cell.diffusion * np.eye(len(h))
    for u in x:
        drive = p["W"].dot(u) + p["b"]
        if cell.gated:
            gate, candidate = np.split(drive, 2)
            h = h + cell.time_step * sigmoid(gate + turn.dot(h)) * np.tanh(candidate + turn.dot(h))
        else:
            h = h + cell.time_step * np.tanh(drive + turn.dot(h))
        yield h


def lipschitz(cell, p, h, x):
    def combined(m):
        symmetric, skew = m + m.T, m - m.T
        return symmetric * (1 - cell.skew) + skew * cell.skew - cell.damping * np.eye(len(m))

    for u in x:
        slope = combined(p["M_A"]).dot(h) + np.tanh(combined(p["M_U"]).dot(h) + p["W"].dot(u) + p["b"])
        h = h + cell.time_step * slope
        yield h


def exponential(a):
    """By the eigenvectors of i A, which is Hermitian."""
    phases, vectors = np.linalg.eigh(1j * a)
    return ((vectors * np.exp(-1j * phases)) @ vectors.conj().T).real


def exp_rnn(cell, p, h, x):
    turn = exponential(p["A"] - p["A"].T)
    for u in x:
        z = p["W"].dot(u) + turn.dot(h)
        h = np.sign(z) * np.maximum(np.abs(z) + p["b"], 0)
        yield h


def urnn(cell, p, state, x):
    n = cell.hidden_size
    h, w = state[:n] + 1j * state[n:], p["W"][:n] + 1j * p["W"][n:]
    v = p["v_re"] + 1j * p["v_im"]

    def reflected(z, i):
        return z - 2 * v[i] * np.vdot(v[i], z) / np.vdot(v[i], v[i])

    for u in x:
        z = np.fft.fft(np.exp(1j * p["theta"][0]) * h, norm="ortho")
        z = np.exp(1j * p["theta"][1]) * p["P"].dot(reflected(z, 0))
        z = np.exp(1j * p["theta"][2]) * reflected(np.fft.ifft(z, norm="ortho"), 1) + w.dot(u)
        h = np.array([max(abs(c) + b, 0) * c / abs(c) for c, b in zip(z, p["b"], strict=True)])
        yield np.concatenate((h.real, h.imag))


OF_PAPERS = [
    *((LeakyRNN(2, 3, 0.3, a), leaky) for a in ("tanh", "relu", "logistic")),
    (EchoState(2, 5, leak=0.4), echo_state),
    (IRNN(2, 3), irnn),
    (RateNetwork(2, 3, 0.3), rate_network),
    *((Jordan(2, 3, 4, g), jordan) for g in ("identity", "tanh", "logistic")),
    (SCRN(2, 3, 4), scrn),
    (NARX(2, 3, (2,)), narx),
    (NARX(2, 3, (3, 1), 2), narx),
    (FastRNN(2, 3), fast_rnn),
    (FastGRNN(2, 3), fast_grnn),
    (ClockworkRNN(2, 7, (1, 2, 3)), clockwork),
    (ClockworkRNN(2, 4, (4, 1)), clockwork),
    *((AntisymmetricRNN(2, 3, gated=gated), antisymmetric) for gated in (False, True)),
    (LipschitzRNN(2, 3), lipschitz),
    (ExpRNN(2, 5), exp_rnn),
    (URNN(2, 4), urnn),
    (URNN(2, 5), urnn),
]
CELLS = [cell for cell, _ in OF_PAPERS]
BY_JAX = "clockwork_rnn", "exp_rnn", "urnn"
"""Cells whose weights are made before JAX sees the steps, or whose steps depend on the time."""

each = pytest.mark.parametrize("cell", CELLS, ids=repr)
test_in_the_kit = conformance(*CELLS)


def run(cell, params, inputs, first, record=("state", "step_jacobian")):
    """A run of one sequence (steps, input)."""
    return gradsim.simulate(
        cell, inputs[:, None], params=params, initial_state=first[None], record=list(record)
    ).isel(batch=0)


@pytest.mark.parametrize(("cell", "paper"), OF_PAPERS, ids=map(repr, CELLS))
def test_a_run_is_that_of_the_paper(cell, paper, rng):
    params, x = moved(cell, rng), rng.standard_normal((STEPS, cell.input_size))
    first = rng.standard_normal(cell.state_size)
    states = run(cell, params, x, first, ["state"]).state[1:]
    np.testing.assert_allclose(states, list(paper(cell, params, first, x)), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("cell", [c for c in CELLS if c.name in BY_JAX], ids=repr)
def test_autograd_and_jax_agree_on_the_adjoints(cell, rng):
    x = rng.standard_normal((STEPS, 2, cell.input_size))
    found = [
        gradsim.simulate(cell, x, record=["adjoint_norm", "gradient"], derivatives=by)
        for by in ("autograd", "jax")
    ]
    for name in found[0].data_vars:
        np.testing.assert_allclose(found[1][name], found[0][name], rtol=1e-9, atol=1e-12, err_msg=name)


@each
def test_a_training_lowers_the_loss(cell):
    cell = dataclasses.replace(cell, input_size=1)
    task = Sunspots(length=20)
    ds = gradsim.train(cell, task, updates=25, batch=8, optimizer=Adam(0.01))
    assert ds.train_loss[-5:].mean() < ds.train_loss[:5].mean()


# Closed forms.


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
