"""Cells without gates, or nearly so, against loops that are written from their papers."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from helpers import exponential
from stepping import moved, sigmoid

import gradsim
from gradsim.testing import conformance
from gradsim_cells import (
    IRNN,
    NARX,
    SCRN,
    URNN,
    AntisymmetricRNN,
    ClockworkRNN,
    EchoState,
    ExpRNN,
    FastGRNN,
    FastRNN,
    Jordan,
    LeakyRNN,
    LipschitzRNN,
    RateNetwork,
)
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


@pytest.mark.parametrize(("cell", "paper"), OF_PAPERS, ids=map(repr, CELLS))
def test_a_run_is_that_of_the_paper(cell, paper, rng):
    params, x = moved(cell, rng), rng.standard_normal((STEPS, cell.input_size))
    first = rng.standard_normal(cell.state_size)
    given = {"params": params, "initial_state": first[None], "record": ["state"]}
    states = gradsim.simulate(cell, x[:, None], **given).state[1:, 0]
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
