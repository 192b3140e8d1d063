"""Cells with gates, against loops that are written from their papers."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np
import pytest
from stepping import moved, sigmoid

import gradsim
from gradsim.testing import conformance
from gradsim_cells import (
    ATR,
    BRC,
    CFN,
    JANET,
    LEM,
    MGU,
    MUT,
    NBRC,
    NRU,
    RAN,
    RHN,
    STAR,
    UGRNN,
    CoRNN,
    LiGRU,
    LSTMProjected,
    MinimalRNN,
    MultiplicativeLSTM,
    OriginalLSTM,
    PeepholeLSTM,
)
from gradsim_optimizers import SGD
from gradsim_tasks.adding import Adding

# One step for one sequence each: parameters, blocks of the state before, inputs -> blocks after.


def original_lstm(p, h, c, x):
    net = p["W"] @ x + p["U"] @ h + p["b"]
    into, squashed, out = sigmoid(net[:3]), np.tanh(net[3:6]), sigmoid(net[6:])
    cell = c + into * squashed
    return out * np.tanh(cell), cell


def peephole_lstm(p, h, c, x):
    net_i, net_f, net_g, net_o = (p["W"] @ x + p["U"] @ h + p["b"]).reshape(4, 3)
    w_i, w_f, w_o = p["p"].reshape(3, 3)
    cell = sigmoid(net_f + w_f * c) * c + sigmoid(net_i + w_i * c) * np.tanh(net_g)
    return sigmoid(net_o + w_o * cell) * np.tanh(cell), cell


def ugrnn(p, h, x):
    net_g, net_c = (p["W"] @ x + p["U"] @ h + p["b"]).reshape(2, 3)
    candidate = np.tanh(net_c)
    return (candidate + sigmoid(net_g) * (h - candidate),)


def janet(p, c, x):
    s, net = (p["W"] @ x + p["U"] @ c + p["b"]).reshape(2, 3)
    return (c / (1 + np.exp(-s)) + np.tanh(net) / (1 + np.exp(s - 1)),)


def ligru(p, h, x):
    z, a = (p["W"] @ x + p["U"] @ h + p["b"]).reshape(2, 3)
    return (sigmoid(z) * h + sigmoid(-z) * np.maximum(a, 0),)


def cfn(p, h, x):
    v_theta, v_eta, w = p["W"].reshape(3, 3, 2)
    theta, eta = (p["U"] @ h + p["b"]).reshape(2, 3)
    return (sigmoid(theta + v_theta @ x) * np.tanh(h) + sigmoid(eta + v_eta @ x) * np.tanh(w @ x),)


def star(p, h, x):
    w_k, w_z = p["W"].reshape(2, 3, 2)
    b_k, b_z = p["b"].reshape(2, 3)
    k = sigmoid(w_k @ x + p["U"] @ h + b_k)
    return (np.tanh(h + k * (np.tanh(w_z @ x + b_z) - h)),)


def brc(p, h, x):
    a, c, n = (p["W"] @ x + p["b"]).reshape(3, 3)
    w_a, w_c = p["w"].reshape(2, 3)
    feedback, kept = 1 + np.tanh(a + w_a * h), sigmoid(c + w_c * h)
    return (kept * h + (1 - kept) * np.tanh(n + feedback * h),)


def nbrc(p, h, x):
    a, c, n = (p["W"] @ x + p["b"]).reshape(3, 3)
    u_a, u_c = p["U"].reshape(2, 3, 3)
    feedback, kept = 1 + np.tanh(a + u_a @ h), sigmoid(c + u_c @ h)
    return (kept * h + (1 - kept) * np.tanh(n + feedback * h),)


def atr(p, h, x):
    p_t, q_t = p["W"] @ x + p["b"], p["U"] @ h
    return (p_t * sigmoid(p_t + q_t) + h * sigmoid(p_t - q_t),)


def mgu(p, h, x):
    w_f, w_n = p["W"].reshape(2, 3, 2)
    u_f, u_n = p["U"].reshape(2, 3, 3)
    f = sigmoid(w_f @ x + u_f @ h + p["b"][:3])
    return (h + f * (np.tanh(w_n @ x + u_n @ (f * h) + p["b"][3:]) - h),)


def minimal_rnn(p, h, x):
    z = np.tanh(p["W"] @ x + p["b_z"])
    u = sigmoid(p["U"] @ h + p["V"] @ z + p["b_u"])
    return (z + u * (h - z),)


def ran(p, c, x, g=np.tanh):
    i, f, content = (p["W"] @ x + p["b"]).reshape(3, 3)
    from_i, from_f = (p["U"] @ g(c)).reshape(2, 3)
    return (sigmoid(i + from_i) * content + sigmoid(f + from_f) * c,)


def additive(p, c, x):
    return ran(p, c, x, g=lambda c: c)


def mut(form):
    def loop(p, h, x):
        w_xz, w_xr, w_xh = p["W"].reshape(3, 3, 2)
        *w_hz, w_hr, w_hh = p["U"].reshape(-1, 3, 3)
        b_z, b_r, b_h = p["b"].reshape(3, 3)
        if form == 1:
            z = sigmoid(w_xz @ x + b_z)
        else:
            z = sigmoid(w_xz @ x + w_hz[0] @ {2: h, 3: np.tanh(h)}[form] + b_z)
        r = sigmoid(w_xr @ x + w_hr @ h + b_r)
        into = np.tanh(w_xh @ x) if form == 1 else w_xh @ x
        return (np.tanh(w_hh @ (r * h) + into + b_h) * z + h * (1 - z),)

    return loop


def rhn(depth, coupled):
    def loop(p, s, x):
        for layer in range(depth):
            net = p[f"U{layer + 1}"] @ s + p[f"b{layer + 1}"] + (layer == 0) * (p["W"] @ x)
            t = sigmoid(net[3:6])
            s = np.tanh(net[:3]) * t + s * (1 - t if coupled else sigmoid(net[6:]))
        return (s,)

    return loop


def multiplicative_lstm(p, h, c, x):
    m = (p["W_m"] @ x) * (p["U_m"] @ h)
    net_i, net_f, net_h, net_o = (p["W"] @ x + p["U"] @ m + p["b"]).reshape(4, 3)
    cell = sigmoid(net_f) * c + sigmoid(net_i) * np.tanh(net_h)
    return np.tanh(cell) * sigmoid(net_o), cell


def lstm_projected(p, r, c, x):
    net_i, net_f, net_c, net_o = (p["W"] @ x + p["U"] @ r + p["b"]).reshape(4, 3)
    cell = sigmoid(net_f) * c + sigmoid(net_i) * np.tanh(net_c)
    return p["V"] @ (sigmoid(net_o) * np.tanh(cell)), cell


def cornn(implicit):
    def loop(p, y, z, x):
        dt, gamma, epsilon = 0.1, 1.5, 2.0
        z_new = z + dt * np.tanh(p["U"] @ y + p["U_z"] @ z + p["W"] @ x + p["b"]) - dt * gamma * y
        z_new = z_new / (1 + dt * epsilon) if implicit else z_new - dt * epsilon * z
        return y + dt * z_new, z_new

    return loop


def lem(p, y, z, x):
    dt = 0.5
    v_1, v_2, v_z, v_y = (p["W"] @ x + p["b"]).reshape(4, 3)
    w_1, w_2, w_z = p["U"].reshape(3, 3, 3)
    step, step_bar = dt * sigmoid(w_1 @ y + v_1), dt * sigmoid(w_2 @ y + v_2)
    z = (1 - step) * z + step * np.tanh(w_z @ y + v_z)
    return (1 - step_bar) * y + step_bar * np.tanh(p["U_h"] @ z + v_y), z


def nru(p, h, m, x):
    """Of 2 heads for a memory of 8, so that p and q have 4 numbers."""
    h = np.maximum(p["W"] @ x + p["U"] @ h + p["V"] @ m + p["b"], 0)
    a = p["A"] @ x + p["B"] @ h + p["C"] @ m + p["d"]
    new = m.copy()
    for sign, strengths, p_q in ((1, a[:2], a[4:12]), (-1, a[2:4], a[12:])):
        vectors = np.maximum(np.outer(p_q[:4], p_q[4:]), 0).reshape(2, 8)
        for strength, v in zip(strengths, vectors, strict=True):
            size = np.linalg.norm(v, 5)
            if size > 0:
                new += sign * max(strength, 0) * v / size / 2
    return h, new


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
    MGU(2, 3): mgu,
    MinimalRNN(2, 3): minimal_rnn,
    RAN(2, 3): ran,
    RAN(2, 3, activation="identity"): additive,
    **{MUT(2, 3, form=form): mut(form) for form in (1, 2, 3)},
    RHN(2, 3, depth=1): rhn(1, True),
    RHN(2, 3, depth=3): rhn(3, True),
    RHN(2, 3, depth=2, coupled=False): rhn(2, False),
    MultiplicativeLSTM(2, 3): multiplicative_lstm,
    LSTMProjected(2, 3, projection_size=2): lstm_projected,
    **{
        CoRNN(2, 3, time_step=0.1, gamma=1.5, epsilon=2.0, implicit=implicit): cornn(implicit)
        for implicit in (False, True)
    },
    LEM(2, 3, time_step=0.5): lem,
    NRU(2, 3, memory_size=8, heads=2): nru,
}

each_cell = pytest.mark.parametrize("cell", LOOPS, ids=repr)


@each_cell
def test_a_cell_takes_the_steps_of_its_paper(cell, inputs, rng):
    params = moved(cell, rng)
    start = 0.5 * rng.standard_normal(cell.state_size)
    ds = gradsim.simulate(cell, inputs, params=params, initial_state=start, record=["state"])
    for b in range(inputs.shape[1]):
        state = cell.split(start)
        for t, x in enumerate(inputs[:, b]):
            state = LOOPS[cell](params, *state, x)
            np.testing.assert_allclose(ds.state[t + 1, b], np.concatenate(state), rtol=1e-11, atol=1e-12)


@each_cell
def test_a_cotangent_is_pulled_back_as_jax_does(cell, rng):
    params = moved(cell, rng)
    state, cotangent = rng.standard_normal((2, 4, cell.state_size))
    x = rng.standard_normal((4, 2))
    with jax.enable_x64(True):
        _, pull = jax.vjp(lambda p, s: cell.step(p, s, x, jax.numpy), params, state)
        theirs, expected = pull(cotangent)
    np.testing.assert_allclose(cell.state_vjp(params, state, x, cotangent), expected, rtol=1e-10, atol=1e-12)
    for name, gradient in cell.params_vjp(params, state, x, cotangent).items():
        np.testing.assert_allclose(gradient, theirs[name], rtol=1e-10, atol=1e-12, err_msg=name)


@each_cell
def test_a_training_goes_down(cell):
    """A few updates of plain descent on the adding task."""
    given = {"task": Adding(length=20), "batch": 64, "optimizer": SGD(0.05), "updates": 40, "rng": 0}
    loss = gradsim.train(dataclasses.replace(cell, hidden_size=8), **given).train_loss
    assert loss[-5:].mean() < 0.8 * loss[:5].mean()


test_kit = conformance(*LOOPS, JANET(2, 3, beta=0.0), ATR(1, 1))
