"""Cells with gates, against loops that are written from their papers, and against what is known of them."""

from __future__ import annotations

import dataclasses

import array_api_compat.torch
import array_api_strict
import jax
import numpy as np
import pytest

import gradsim
from gradsim.testing import conformance
from gradsim_cells import ATR, BRC, CFN, JANET, LSTM, NBRC, STAR, UGRNN, LiGRU, OriginalLSTM, PeepholeLSTM
from gradsim_initializers import Chrono
from gradsim_optimizers import SGD
from gradsim_tasks.adding import Adding


def sigma(x):
    return 1 / (1 + np.exp(-x))


# One step for one sequence each: parameters, blocks of the state before, inputs -> blocks after.


def original_lstm(p, h, c, x):
    net = p["W"] @ x + p["U"] @ h + p["b"]
    into, squashed, out = sigma(net[:3]), np.tanh(net[3:6]), sigma(net[6:])
    cell = c + into * squashed
    return out * np.tanh(cell), cell


def peephole_lstm(p, h, c, x):
    net_i, net_f, net_g, net_o = (p["W"] @ x + p["U"] @ h + p["b"]).reshape(4, 3)
    w_i, w_f, w_o = p["p"].reshape(3, 3)
    cell = sigma(net_f + w_f * c) * c + sigma(net_i + w_i * c) * np.tanh(net_g)
    return sigma(net_o + w_o * cell) * np.tanh(cell), cell


def ugrnn(p, h, x):
    net_g, net_c = (p["W"] @ x + p["U"] @ h + p["b"]).reshape(2, 3)
    candidate = np.tanh(net_c)
    return (candidate + sigma(net_g) * (h - candidate),)


def janet(p, c, x):
    s, net = (p["W"] @ x + p["U"] @ c + p["b"]).reshape(2, 3)
    return (c / (1 + np.exp(-s)) + np.tanh(net) / (1 + np.exp(s - 1)),)


def ligru(p, h, x):
    z, a = (p["W"] @ x + p["U"] @ h + p["b"]).reshape(2, 3)
    return (sigma(z) * h + sigma(-z) * np.maximum(a, 0),)


def cfn(p, h, x):
    v_theta, v_eta, w = p["W"].reshape(3, 3, 2)
    theta, eta = (p["U"] @ h + p["b"]).reshape(2, 3)
    return (sigma(theta + v_theta @ x) * np.tanh(h) + sigma(eta + v_eta @ x) * np.tanh(w @ x),)


def star(p, h, x):
    w_k, w_z = p["W"].reshape(2, 3, 2)
    b_k, b_z = p["b"].reshape(2, 3)
    k = sigma(w_k @ x + p["U"] @ h + b_k)
    return (np.tanh(h + k * (np.tanh(w_z @ x + b_z) - h)),)


def brc(p, h, x):
    a, c, n = (p["W"] @ x + p["b"]).reshape(3, 3)
    w_a, w_c = p["w"].reshape(2, 3)
    feedback, kept = 1 + np.tanh(a + w_a * h), sigma(c + w_c * h)
    return (kept * h + (1 - kept) * np.tanh(n + feedback * h),)


def nbrc(p, h, x):
    a, c, n = (p["W"] @ x + p["b"]).reshape(3, 3)
    u_a, u_c = p["U"].reshape(2, 3, 3)
    feedback, kept = 1 + np.tanh(a + u_a @ h), sigma(c + u_c @ h)
    return (kept * h + (1 - kept) * np.tanh(n + feedback * h),)


def atr(p, h, x):
    p_t, q_t = p["W"] @ x + p["b"], p["U"] @ h
    return (p_t * sigma(p_t + q_t) + h * sigma(p_t - q_t),)


LOOPS = {
    OriginalLSTM(2, 3): original_lstm,
    PeepholeLSTM(2, 3): peephole_lstm,
    UGRNN(2, 3): ugrnn,
    JANET(2, 3): janet,
    LiGRU(2, 3): ligru,
    CFN(2, 3): cfn,
    STAR(2, 3): star,
    BRC(2, 3): brc,
    NBRC(2, 3): nbrc,
    ATR(2, 3): atr,
}

each_cell = pytest.mark.parametrize("cell", LOOPS, ids=lambda cell: cell.name)


def params_of(cell, rng, **given):
    """Parameters of a cell, none of them 0, and some as given."""
    drawn = cell.init_params(rng)
    return {n: p + 0.3 * rng.standard_normal(p.shape) for n, p in drawn.items()} | given


def run(cell, params, inputs, record=("state",), **options):
    return gradsim.simulate(cell, inputs, params=params, record=list(record), **options)


@each_cell
def test_a_cell_takes_the_steps_of_its_paper(cell, inputs, rng):
    params = params_of(cell, rng)
    start = 0.5 * rng.standard_normal(cell.state_size)
    ds = run(cell, params, inputs, initial_state=start)
    for b in range(inputs.shape[1]):
        state = cell.split(start)
        for t, x in enumerate(inputs[:, b]):
            state = LOOPS[cell](params, *state, x)
            np.testing.assert_allclose(ds.state[t + 1, b], np.concatenate(state), rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    "xp", [array_api_strict, jax.numpy, array_api_compat.torch], ids=lambda xp: xp.__name__
)
@each_cell
def test_a_step_takes_the_arrays_of_other_libraries(cell, xp, rng):
    params = params_of(cell, rng)
    state, x = rng.standard_normal((4, cell.state_size)), rng.standard_normal((4, 2))
    with jax.enable_x64(True):
        theirs = cell.step(
            {n: xp.asarray(p) for n, p in params.items()}, xp.asarray(state), xp.asarray(x), xp
        )
    np.testing.assert_allclose(np.asarray(theirs), cell.step(params, state, x, np), rtol=1e-13, atol=1e-13)


@each_cell
def test_a_gradient_by_jax_is_the_same(cell, inputs):
    ours, theirs = (
        gradsim.simulate(cell, inputs, record=["adjoint", "gradient"], derivatives=by)
        for by in ("auto", "jax")
    )
    for name in ours.data_vars:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=1e-9, atol=1e-12, err_msg=name)


@each_cell
def test_a_training_goes_down(cell):
    """A few updates of plain descent on the adding task."""
    given = {"task": Adding(length=20), "batch": 64, "optimizer": SGD(0.05), "updates": 40, "rng": 0}
    loss = gradsim.train(dataclasses.replace(cell, hidden_size=8), **given).train_loss
    assert loss[-5:].mean() < 0.8 * loss[:5].mean()


test_kit = conformance(*(type(cell)(3, 5) for cell in LOOPS), JANET(2, 3, beta=0.0), ATR(1, 1))


# What is known of them.


def test_without_forget_gate_the_error_in_a_cell_stays_the_same():
    """The constant error carousel: dc_t/dc_k = 1 where gates see no state."""
    cell = OriginalLSTM(1, 3)
    rng = np.random.default_rng(0)
    params = params_of(cell, rng, U=np.zeros((9, 3)))
    ds = run(cell, params, rng.standard_normal((60, 1, 1)), ["jacobian_product"])
    assert (ds.jacobian_product[-1, 0, 0, 3:, 3:].values == np.eye(3)).all()


def test_without_forget_gate_it_is_an_lstm_that_forgets_nothing(inputs, rng):
    params = params_of(OriginalLSTM(2, 3), rng)
    i, g, o = (slice(3 * k, 3 * k + 3) for k in range(3))
    whole = {n: np.concatenate((p[i], np.zeros_like(p[i]), p[g], p[o])) for n, p in params.items()}
    whole["b"][3:6] = 1e3
    ours, theirs = run(OriginalLSTM(2, 3), params, inputs), run(LSTM(2, 3), whole, inputs)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)


def test_without_peepholes_it_is_the_lstm(inputs, rng):
    params = params_of(LSTM(2, 3), rng)
    ours = run(PeepholeLSTM(2, 3), params | {"p": np.zeros(9)}, inputs, ["state", "jacobian_product"])
    theirs = run(LSTM(2, 3), params, inputs, ["state", "jacobian_product"])
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(ours.jacobian_product, theirs.jacobian_product, rtol=1e-10, atol=1e-13)


def test_of_a_janet_with_beta_0_nothing_is_left_but_a_ugrnn(inputs, rng):
    params = params_of(UGRNN(2, 3), rng)
    ours, theirs = run(JANET(2, 3, beta=0.0), params, inputs), run(UGRNN(2, 3), params, inputs)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("beta", [0.0, 1.0, 2.5])
def test_the_state_of_a_janet_tends_to_e_to_the_beta(beta):
    """Where its gate is open and its candidate 1, by (1 - sigma(s - beta)) / (1 - sigma(s)) -> e^beta."""
    params = {"W": np.zeros((2, 1)), "U": np.zeros((2, 1)), "b": np.array([4.0, 1e3])}
    ds = run(JANET(1, 1, beta=beta), params, np.zeros((1500, 1, 1)))
    bound = (1 + np.exp(4.0)) / (1 + np.exp(4.0 - beta))
    assert ds.state[-1].item() == pytest.approx(bound, rel=1e-8)
    assert bound <= np.exp(beta)


def test_the_gate_of_a_janet_starts_by_chrono():
    b = JANET(1, 50, bias_init=Chrono(longest=20)).init_params(np.random.default_rng(0))["b"]
    assert ((np.exp(b[:50]) >= 1) & (np.exp(b[:50]) <= 19)).all()
    assert (b[50:] == 0).all()


@pytest.mark.parametrize("cell", [UGRNN(2, 3), LiGRU(2, 3)], ids=repr)
def test_an_open_update_gate_keeps_state_and_gradient(cell, inputs, rng):
    params = params_of(cell, rng)
    params["b"][:3] = 1e3
    start = np.array([0.3, -0.2, 0.9])
    ds = run(cell, params, inputs, ["state", "jacobian_product"], initial_state=start)
    assert (ds.state == start).all()
    assert (ds.jacobian_product[-1, 0, 0].values == np.eye(3)).all()


def test_a_chaos_free_network_falls_silent_without_inputs(rng):
    """Each unit shrinks, whatever the weights (Laurent & von Brecht 2017)."""
    cell = CFN(2, 20)
    params = {n: 10 * p for n, p in params_of(cell, rng).items()}
    ds = run(cell, params, np.zeros((50, 4, 2)), initial_state=3 * rng.standard_normal(20))
    size = np.abs(ds.state.values)
    assert (size[1:] <= size[:-1]).all()
    assert (size[1:] < size[:-1]).any(axis=(1, 2)).all()


def test_the_step_jacobian_of_star(inputs, rng):
    """diag(1 - h'^2) (diag(1 - k) + diag((z - h) k (1 - k)) U)."""
    cell = STAR(2, 3)
    params = params_of(cell, rng)
    ds = run(cell, params, inputs, ["state", "step_jacobian"])
    old, new, x = ds.state[4, 1].values, ds.state[5, 1].values, inputs[4, 1]
    k = sigma(params["W"][:3] @ x + params["U"] @ old + params["b"][:3])
    z = np.tanh(params["W"][3:] @ x + params["b"][3:])
    expected = np.diag(1 - new**2) @ (np.diag(1 - k) + np.diag((z - old) * k * (1 - k)) @ params["U"])
    np.testing.assert_allclose(ds.step_jacobian[4, 1], expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(("a", "rest"), [(0.5, 0.0), (0.9, 0.0), (1.5, 0.8585596), (1.9, 0.9466680)])
def test_a_bistable_cell_remembers_a_sign_if_its_feedback_exceeds_1(a, rest):
    """It comes to rest where h = tanh(a h)."""
    params = {"W": np.zeros((3, 1)), "w": np.zeros(2), "b": np.array([np.arctanh(a - 1), -1.0, 0.0])}
    for sign in (1, -1):
        ds = run(BRC(1, 1), params, np.zeros((600, 1, 1)), initial_state=[0.3 * sign])
        assert ds.state[-1].item() == pytest.approx(rest * sign, abs=1e-6)


def test_a_bistable_cell_is_the_modulated_one_with_diagonal_weights(inputs, rng):
    params = params_of(BRC(2, 3), rng)
    w = params.pop("w")
    u = np.concatenate([np.diag(w[:3]), np.diag(w[3:])])
    record = ["state", "jacobian_product"]
    ours = run(BRC(2, 3), params | {"w": w}, inputs, record)
    theirs = run(NBRC(2, 3), params | {"U": u}, inputs, record)
    np.testing.assert_allclose(ours.state, theirs.state, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(
        ours.jacobian_product,
        np.diagonal(theirs.jacobian_product.values, axis1=-2, axis2=-1)[..., None, None],
        rtol=1e-10,
        atol=1e-14,
    )


def test_the_twin_gates_of_atr_add_up_where_there_is_no_input():
    """With x = 0, h' = sigma(-U h) h: a unit of its own halves its state where U = 0."""
    params = {"W": np.ones((2, 1)), "U": np.zeros((2, 2)), "b": np.zeros(2)}
    ds = run(ATR(1, 2), params, np.zeros((5, 1, 1)), initial_state=[1.0, -3.0])
    np.testing.assert_allclose(ds.state[:, 0, 1], -3 / 2.0 ** np.arange(6), rtol=1e-14)
