"""Cells whose Jacobian is made of small blocks: against loops, closed forms and limits."""

from __future__ import annotations

import numpy as np
import pytest
from stepping import drawn, seen, sigmoid

import gradsim
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import (
    GRU,
    QRNN,
    S4D,
    SRU,
    Elman,
    IndRNN,
    LrcSSM,
    MinGRU,
    MinLSTM,
    ParaGRU,
    ParaLSTM,
    SelectiveSSM,
    UnICORNN,
)
from gradsim_initializers import Chrono, Orthogonal, Ring, Zeros

test_kit = conformance(
    IndRNN(2, 3, activation="tanh"),
    IndRNN(3, 2, u_min=-1.0),
    LrcSSM(2, 3, time_step=0.5),
    MinLSTM(2, 3, forget_bias=1.0),
    ParaGRU(2, 3),
    ParaLSTM(2, 3),
    QRNN(2, 3, pooling="f"),
    QRNN(2, 3, pooling="ifo"),
    QRNN(2, 3, window=2),
    QRNN(2, 2, window=3, pooling="ifo"),
    SRU(3, 3),
    SRU(2, 3, reset_sees_state=True),
    UnICORNN(2, 3, time_step=0.5, alpha=0.3),
    S4D(2, 3, states=2, recurrent_init=Ring()),
    SelectiveSSM(2, 3, states=2),
)


def softplus(x):
    return np.log(1 + np.exp(x))


# Each cell once more, as its paper has it: unit by unit, gate by gate.


def ind_rnn(cell, p, xs):
    h = np.zeros(cell.hidden_size)
    for x in xs:
        for j in range(len(h)):
            a = p["W"][j] @ x + p["u"][j] * h[j] + p["b"][j]
            h[j] = np.tanh(a) if cell.activation == "tanh" else max(a, 0.0)
        yield h.copy()


def qrnn(cell, p, xs):
    n, kernels = cell.hidden_size, [p["W"], *(p[f"W_{j}"] for j in range(1, cell.window))]
    padded = np.concatenate((np.zeros((cell.window - 1, cell.input_size)), xs))
    c = np.zeros(n)
    for t in range(len(xs)):
        latest = padded[t : t + cell.window][::-1]
        a = sum(w @ x for w, x in zip(kernels, latest, strict=True)) + p["b"]
        z, f = np.tanh(a[:n]), sigmoid(a[n : 2 * n])
        c = f * c + (sigmoid(a[3 * n :]) if cell.pooling == "ifo" else 1 - f) * z
        yield c if cell.pooling == "f" else sigmoid(a[2 * n : 3 * n]) * c


def sru(cell, p, xs):
    n = cell.hidden_size
    w, v = p["W"].reshape(-1, n, cell.input_size), p["v"].reshape(-1, n)
    bias_f, bias_r = p["b"].reshape(2, n)
    c = np.zeros(n)
    for x in xs:
        f = sigmoid(w[1] @ x + v[0] * c + bias_f)
        r = sigmoid(w[2] @ x + (v[1] * c if cell.reset_sees_state else 0) + bias_r)
        c = f * c + (1 - f) * (w[0] @ x)
        yield r * c + (1 - r) * (w[3] @ x if len(w) > 3 else x)


def min_lstm(cell, p, xs):
    h = np.zeros(cell.hidden_size)
    for x in xs:
        i, f, g = np.split(p["W"] @ x + p["b"], 3)
        i, f = sigmoid(i), sigmoid(f)
        h = f / (f + i) * h + i / (f + i) * g
        yield h


def para_gru(cell, p, xs):
    n = cell.hidden_size
    h, square = np.zeros(n), [np.diag(u) for u in p["u"].reshape(3, n)]
    for x in xs:
        r, z, g = np.split(p["W"] @ x + p["b"], 3)
        r, z = sigmoid(r + square[0] @ h), sigmoid(z + square[1] @ h)
        h = h + z * (np.tanh(g + square[2] @ (r * h)) - h)
        yield h


def para_lstm(cell, p, xs):
    n = cell.hidden_size
    h, c = np.zeros((2, n))
    u, peep = ([np.diag(row) for row in p[name].reshape(-1, n)] for name in ("u", "p"))
    for x in xs:
        f, g, o = np.split(p["W"] @ x + p["b"], 3)
        f = sigmoid(f + u[0] @ h + peep[0] @ c)
        c = c + (1 - f) * (np.tanh(g + u[1] @ h) - c)
        h = sigmoid(o + u[2] @ h + peep[1] @ c) * np.tanh(c)
        yield h


def lrc_ssm(cell, p, xs):
    h = np.zeros(cell.hidden_size)
    for x in xs:
        s, e = np.split(p["W"] @ x + p["b"], 2)
        for i, v in enumerate(h):
            own, seen = sigmoid(p["a"][i] * v + p["c"][i]), sigmoid(s[i])
            f = p["g"][i] * own + p["g_in"][i] * seen + p["leak"][i]
            z = p["k"][i] * own + p["k_in"][i] * seen + p["leak"][i]
            slope = (-sigmoid(f) * v + np.tanh(z) * p["rest"][i]) * sigmoid(p["w"][i] * v + e[i])
            h[i] = v + cell.time_step * slope
        yield h.copy()


def unicornn(cell, p, xs):
    y, z = np.zeros((2, cell.hidden_size))
    for x in xs:
        step = cell.time_step * sigmoid(p["c"])
        z = z - step * (np.tanh(p["w"] * y + p["W"] @ x + p["b"]) + cell.alpha * y)
        y = y + step * z
        yield y


def s4d(cell, p, xs):
    a = np.repeat(np.exp(p["log_step"]), cell.states) * (-np.exp(p["log_decay"]) + 1j * p["frequency"])
    held = (np.exp(a) - 1) / (-np.exp(p["log_decay"]) + 1j * p["frequency"])
    s = np.zeros(len(a), dtype=complex)
    for x in xs:
        u = p["W"] @ x
        s = np.exp(a) * s + held * np.repeat(u, cell.states)
        read = ((p["C_re"] + 1j * p["C_im"]) * s).reshape(-1, cell.states).sum(axis=1)
        yield 2 * read.real + p["D"] * u


def selective_ssm(cell, p, xs):
    n, k = cell.hidden_size, cell.states
    s, a = np.zeros((n, k)), -np.exp(p["log_A"]).reshape(n, k)
    for x in xs:
        u, b, c = p["W"] @ x, p["W_B"] @ x, p["W_C"] @ x
        for j, d in enumerate(softplus(p["W_d"] @ x + p["b_d"])):
            s[j] = np.exp(d * a[j]) * s[j] + d * b * u[j]
        yield s @ c + p["D"] * u


BY_HAND = [
    (ind_rnn, IndRNN(2, 3)),
    (ind_rnn, IndRNN(2, 3, activation="tanh")),
    *((qrnn, QRNN(2, 3, window=w, pooling=p)) for w in (1, 2, 3) for p in ("f", "fo", "ifo")),
    *((sru, SRU(i, 3, reset_sees_state=r)) for i in (2, 3) for r in (False, True)),
    (min_lstm, MinLSTM(2, 3)),
    (para_gru, ParaGRU(2, 3)),
    (para_lstm, ParaLSTM(2, 3)),
    (lrc_ssm, LrcSSM(2, 3, time_step=0.4)),
    (unicornn, UnICORNN(2, 3, time_step=0.7, alpha=0.8)),
    (s4d, S4D(2, 3, states=2)),
    (selective_ssm, SelectiveSSM(2, 3, states=2)),
]


@pytest.mark.parametrize(("by_hand", "cell"), BY_HAND, ids=lambda x: getattr(x, "__name__", repr(x)))
def test_a_cell_reads_as_its_paper_has_it(by_hand, cell, rng):
    params, xs = drawn(cell, rng)
    np.testing.assert_allclose(
        seen(cell, params, xs), list(by_hand(cell, params, xs)), rtol=1e-12, atol=1e-14
    )


# Closed forms.


def product(cell, params, xs):
    """P(T, 0) of one sequence, (groups, k, k)."""
    ds = gradsim.simulate(
        cell,
        xs[:, None],
        params=params,
        record=["jacobian_product"],
        pairs=gradsim.Pairs(sources=(0,)),
    )
    return ds.jacobian_product.sel(time=len(xs), source=0).values[0]


def test_of_open_units_the_products_of_an_indrnn_are_powers():
    cell, u = IndRNN(1, 3), np.array([0.5, 1.0, 1.1])
    params = {"W": np.ones((3, 1)), "b": np.zeros(3), "u": u}
    found = product(cell, params, np.ones((20, 1)))[:, 0, 0]
    np.testing.assert_allclose(found, u**20, rtol=1e-13)


def test_products_of_gates_are_those_of_the_cells_that_see_no_state(rng):
    cells = MinGRU(2, 3), MinLSTM(2, 3), QRNN(2, 3), QRNN(2, 3, window=2)
    for cell in cells:
        params, xs = drawn(cell, rng)
        a = xs @ params["W"].T + params["b"]
        if "W_1" in params:
            a[1:] += xs[:-1] @ params["W_1"].T
        first, second = sigmoid(a[:, :3]), sigmoid(a[:, 3:6])
        kept = {"min_gru": 1 - first, "min_lstm": second / (first + second), "qrnn": second}[cell.name]
        found = product(cell, params, xs)[:, 0, 0]
        np.testing.assert_allclose(found, kept.prod(axis=0), rtol=1e-11, atol=1e-15)


def test_an_indrnn_is_an_elman_cell_with_a_diagonal_weight(rng):
    params, xs = drawn(IndRNN(2, 3, activation="tanh"), rng)
    square = {"W": params["W"], "b": params["b"], "U": np.diag(params["u"])}
    np.testing.assert_allclose(
        seen(IndRNN(2, 3, activation="tanh"), params, xs), seen(Elman(2, 3), square, xs), rtol=1e-13
    )


def test_a_paragru_is_a_gru_with_diagonal_weights_that_keeps_where_it_admits(rng):
    params, xs = drawn(ParaGRU(2, 3), rng)
    u = np.concatenate([np.diag(u) for u in params["u"].reshape(3, 3)])
    turned = {"W": params["W"].copy(), "U": u, "b": params["b"].copy(), "c": np.zeros(9)}
    for name in ("W", "U", "b"):
        turned[name][3:6] *= -1
    found = seen(GRU(2, 3, reset_after=False), turned, xs)
    np.testing.assert_allclose(seen(ParaGRU(2, 3), params, xs), found, rtol=1e-12, atol=1e-15)


def test_each_oscillator_keeps_its_area(rng):
    cell = UnICORNN(2, 4, time_step=0.9, alpha=2.0)
    params, xs = drawn(cell, rng)
    j = cell.step_jacobian(params, rng.standard_normal((7, 8)), xs)
    np.testing.assert_allclose(np.linalg.det(j), np.ones((7, 4)), rtol=1e-13)


def test_a_free_oscillator_of_small_steps_goes_round(rng):
    """y'' = -s^2 y with s = sigmoid(0) = 1/2: y = cos(t / 2)."""
    cell = UnICORNN(1, 1, time_step=1e-3)
    params = {"W": np.zeros((1, 1)), "b": np.zeros(1), "w": np.zeros(1), "c": np.zeros(1)}
    found = seen(cell, params, np.zeros((2000, 1)), np.array([1.0, 0.0]))
    np.testing.assert_allclose(found[:, 0], np.cos(np.arange(1, 2001) * 5e-4), atol=1e-3)


def test_gates_that_keep_start_as_chrono_says(rng):
    for cell in (QRNN(2, 5, bias_init=Chrono(9)), SRU(2, 5, bias_init=Chrono(9))):
        params = cell.init_params(rng)
        gates = dict(zip(cell.gates["b"], params["b"].reshape(-1, 5), strict=True))
        assert (gates["forget"] > 0).all()
        assert not any(bias.any() for name, bias in gates.items() if name != "forget")
    params = IndRNN(2, 50, u_min=0.9, u_max=0.95, bias_init=Zeros()).init_params(rng)
    assert 0.9 <= params["u"].min() < params["u"].max() <= 0.95


def test_a_range_the_wrong_way_round_is_refused():
    with pytest.raises(InputError, match=r"IndRNN: u_min <= u_max is needed \(got u_min=1.0, u_max=0.5\)"):
        IndRNN(1, 2, u_min=1.0, u_max=0.5)
    message = r"step_min <= step_max is needed \(got step_min=0.2, step_max=0.1\)"
    for cell in (S4D, SelectiveSSM):
        with pytest.raises(InputError, match=message):
            cell(1, 2, step_min=0.2, step_max=0.1)
    with pytest.raises(InputError, match=r"should give eigenvalues with 0 < \|lambda\| < 1"):
        S4D(1, 2, recurrent_init=Orthogonal()).init_params(np.random.default_rng(0))


def test_a_held_input_drives_an_s4d_as_the_differential_equation_says(rng):
    """s' = A s + u from s = 0: s = (exp(A d t) - 1) / A u; A is that of the paper, however many states."""
    cell = S4D(1, 2, states=150, step_min=0.02, step_max=0.02)
    params = cell.init_params(rng)
    a = 0.02 * (-0.5 + 1j * np.pi * np.arange(150))
    state, u = np.zeros(600), params["W"][:, 0]
    for _ in range(50):
        state = cell.step(params, state, np.ones(1), np)
    s = state[:300] + 1j * state[300:]
    expected = np.multiply.outer(u, 0.02 * (np.exp(50 * a) - 1) / a).ravel()
    np.testing.assert_allclose(s, expected, rtol=1e-12)


def test_products_of_state_spaces_are_exponentials(rng):
    cell = S4D(2, 3, states=2)
    params, xs = drawn(cell, rng, 0.1)
    rate = np.repeat(np.exp(params["log_step"]), 2) * -np.exp(params["log_decay"])
    found = product(cell, params, xs)
    norm = np.linalg.norm(found, axis=(1, 2))
    np.testing.assert_allclose(norm, np.sqrt(2) * np.exp(len(xs) * rate), rtol=1e-12)
    cell = SelectiveSSM(2, 3, states=2)
    params, xs = drawn(cell, rng)
    d = softplus(xs @ params["W_d"].T + params["b_d"]).sum(axis=0)
    expected = np.exp(np.repeat(d, 2) * -np.exp(params["log_A"]))
    np.testing.assert_allclose(product(cell, params, xs)[:, 0, 0], expected, rtol=1e-11)


def test_selective_time_steps_may_be_long():
    params = SelectiveSSM(step_min=1e-3, step_max=1e4).init_params(np.random.default_rng(0))
    step = np.logaddexp(params["b_d"], 0)
    assert step.min() > 1e-3
    assert 1e3 < step.max() < 1e4
