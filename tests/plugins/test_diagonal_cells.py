"""Cells whose Jacobian is made of small blocks: against loops, closed forms and limits."""

from __future__ import annotations

import numpy as np
import pytest

import gradsim
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import (
    GRU,
    MLSTM,
    QRNN,
    S4D,
    SLSTM,
    SRU,
    DeltaNet,
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
from gradsim_initializers import Chrono, Identity, Orthogonal, Ring, Zeros
from gradsim_tasks import Parity

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
    SLSTM(2, 4, heads=2),
    SLSTM(2, 3, forget="exp"),
    MLSTM(2, 3, key_size=2),
    DeltaNet(2, 3, key_size=2),
    DeltaNet(2, 2, key_size=3, negative_eigenvalues=True),
)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.log(1 + np.exp(x))


def drawn(cell, rng, times=0.7):
    """Parameters none of which is zero, and a sequence."""
    params = {n: p + times * rng.standard_normal(p.shape) for n, p in cell.init_params(rng).items()}
    return params, rng.standard_normal((7, cell.input_size))


def seen(cell, params, xs, state=None):
    """What is read of each state, (steps, output)."""
    state, found = cell.initial_state() if state is None else state, []
    for x in xs:
        state = cell.step(params, state, x, np)
        found.append(cell.output(params, state, x, np))
    return np.stack(found)


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


def slstm(cell, p, xs, stabilised=False):
    n, heads = cell.hidden_size, cell.heads
    h, c, count, m = np.zeros((4, n))
    u = np.zeros((4 * n, n))
    for row, weights in enumerate(p["U"]):
        u[row, row % heads :: heads] = weights
    for t, x in enumerate(xs):
        i, f, z, o = np.split(p["W"] @ x + u @ h + p["b"], 4)
        log_f = np.log(sigmoid(f)) if cell.forget == "sigmoid" else f
        last, m = m, (np.maximum(log_f + m, i) if t else i) if stabilised else m
        i, f = np.exp(i - m), np.exp(log_f + last - m)
        c, count = f * c + i * np.tanh(z), f * count + i
        h = sigmoid(o) * c / count
        yield h


def slstm_stabilised(cell, p, xs):
    return slstm(cell, p, xs, stabilised=True)


def mlstm(cell, p, xs):
    """All at once, as attention with weights from the gates."""
    q, k, v, i, f, o = (xs @ p[f"W_{name}"].T + p[f"b_{name}"] for name in "qkvifo")
    for t in range(len(xs)):
        gates = [np.exp(i[s, 0]) * np.prod(sigmoid(f[s + 1 : t + 1, 0])) for s in range(t + 1)]
        weights = gates * (k[: t + 1] @ q[t]) / np.sqrt(cell.key_size)
        yield sigmoid(o[t]) * (weights @ v[: t + 1]) / max(abs(weights.sum()), 1)


def mlstm_stabilised(cell, p, xs):
    memory, n, m = np.zeros((cell.hidden_size, cell.key_size)), np.zeros(cell.key_size), 0.0
    for x in xs:
        q, k, v, i, f, o = (p[f"W_{name}"] @ x + p[f"b_{name}"] for name in "qkvifo")
        last, m = m, max(np.log(sigmoid(f[0])) + m, i[0])
        i, f, k = np.exp(i[0] - m), sigmoid(f[0]) * np.exp(last - m), k / np.sqrt(cell.key_size)
        memory, n = f * memory + i * np.outer(v, k), f * n + i * k
        yield sigmoid(o) * (memory @ q) / max(abs(n @ q), np.exp(-m))


def delta_net(cell, p, xs):
    memory = np.zeros((cell.hidden_size, cell.key_size))
    for x in xs:
        q, k, v, beta = (p[f"W_{name}"] @ x + p[f"b_{name}"] for name in ("q", "k", "v", "beta"))
        k, beta = k / np.linalg.norm(k), sigmoid(beta) * (1 + cell.negative_eigenvalues)
        memory = memory @ (np.eye(len(k)) - beta * np.outer(k, k)) + beta * np.outer(v, k)
        yield memory @ q


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
    *((f, SLSTM(2, 4, heads=k)) for f in (slstm, slstm_stabilised) for k in (1, 2)),
    *((f, SLSTM(2, 3, forget="exp")) for f in (slstm, slstm_stabilised)),
    (mlstm, MLSTM(2, 3, key_size=2)),
    (mlstm_stabilised, MLSTM(2, 3, key_size=2)),
    *((delta_net, DeltaNet(2, 3, key_size=2, negative_eigenvalues=n)) for n in (False, True)),
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
    with pytest.raises(InputError, match=r"IndRNN: u_min <= u_max is needed \(got 1.0 and 0.5\)"):
        IndRNN(1, 2, u_min=1.0, u_max=0.5)
    for cell in (S4D, SelectiveSSM):
        with pytest.raises(InputError, match=r"step_min <= step_max is needed \(got 0.2 and 0.1\)"):
            cell(1, 2, step_min=0.2, step_max=0.1)
    with pytest.raises(InputError, match="heads=3 should divide hidden_size=4"):
        SLSTM(1, 4, heads=3)
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


def test_the_heads_of_an_slstm_are_one_head_with_a_block_weight(rng):
    params, xs = drawn(SLSTM(2, 6, heads=3), rng)
    whole = np.zeros((24, 6))
    for row, weights in enumerate(params["U"]):
        whole[row, row % 3 :: 3] = weights
    found = seen(SLSTM(2, 6), params | {"U": whole}, xs)
    np.testing.assert_allclose(seen(SLSTM(2, 6, heads=3), params, xs), found, rtol=1e-13)
    blocks = SLSTM(2, 6, heads=3, recurrent_init=Identity(), recurrent_scale=2.0).init_params(rng)["U"]
    np.testing.assert_array_equal(blocks, 2 * np.tile(np.repeat(np.eye(2), 3, axis=0), (4, 1)))


def test_an_slstm_that_forgets_nothing_takes_the_mean(rng):
    """f = i = 1: r is the mean of all z, whatever the number of steps."""
    cell = SLSTM(1, 1, forget="exp", forget_bias=0.0)
    params = {"W": np.array([[0.0], [0], [1], [0]]), "U": np.zeros((4, 1)), "b": np.array([0, 0, 0, 50.0])}
    xs = rng.standard_normal((30, 1))
    means = np.tanh(xs).cumsum(axis=0) / np.arange(1, 31)[:, None]
    np.testing.assert_allclose(seen(cell, params, xs), means, rtol=1e-12)


def test_gates_of_an_slstm_may_be_far_out_of_range():
    cell = SLSTM(1, 1)
    for size in (-800.0, 800.0):
        params = {"W": size * np.array([[1.0], [1], [0], [0]]), "U": np.zeros((4, 1)), "b": np.ones(4)}
        found = seen(cell, params, np.array([[1.0], [-1], [1]]))
        assert np.isfinite(found).all()


def test_an_mlstm_goes_on_by_one_number_beside_a_column(rng):
    """N = exp(l) is f N + i, and f N_{t-1} / N_t is left of each mean."""
    cell = MLSTM(2, 3, key_size=2)
    params, xs = drawn(cell, rng)
    state, x = rng.standard_normal(9), xs[0]
    i, f, k, v = (params[f"W_{n}"] @ x + params[f"b_{n}"] for n in "ifkv")
    size = sigmoid(f) * np.exp(state[8])
    share = np.exp(i) / (size + np.exp(i))
    expected = (1 - share) * np.eye(9)
    written = np.concatenate((np.outer(k, v).ravel(), k)) / np.sqrt(2)
    expected[:8, 8] = -share * (1 - share) * (written - state[:8])
    np.testing.assert_allclose(cell.step_jacobian(params, state, x)[0], expected, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("shift", [-200.0, -1.0, 30.0, 200.0])
def test_what_an_mlstm_reads_does_not_depend_on_its_stabiliser(shift, rng):
    cell = MLSTM(2, 3, key_size=2)
    params, xs = drawn(cell, rng)
    start = rng.standard_normal(9)
    other = np.append(start[:8] * np.exp(-shift), start[8] + shift)
    np.testing.assert_allclose(seen(cell, params, xs, other), seen(cell, params, xs, start), rtol=1e-9)


def test_input_gates_of_an_mlstm_may_be_far_out_of_range_of_float32(rng):
    """A gate of e^500 leaves v times the sign of k . q, as whatever was there before is nothing beside."""
    cell = MLSTM(1, 2, key_size=2)
    params = {n: np.asarray(p, dtype="float32") for n, p in drawn(cell, rng)[0].items()}
    params |= {"W_i": np.array([[500.0]], dtype="float32"), "b_i": np.zeros(1, dtype="float32")}
    q, k, v, o = (params[f"W_{n}"][:, 0] + params[f"b_{n}"] for n in "qkvo")
    state = cell.initial_state().astype("float32")
    xs = np.array([[-1.0], [0.3], [1.0]], dtype="float32")
    with np.errstate(over="raise", invalid="raise"):
        found = seen(cell, params, xs)[-1]
        assert np.isfinite(cell.step_jacobian(params, state, xs[0])).all()
    np.testing.assert_allclose(found, sigmoid(o) * v * np.sign(k @ q), rtol=1e-5)


@pytest.mark.parametrize("negative", [False, True])
def test_each_row_of_a_deltanet_goes_on_by_a_reflection_or_less(negative, rng):
    cell = DeltaNet(2, 3, key_size=4, negative_eigenvalues=negative)
    params, xs = drawn(cell, rng)
    found = cell.step_jacobian(params, rng.standard_normal((7, 12)), xs)
    k = xs @ params["W_k"].T + params["b_k"]
    k /= np.linalg.norm(k, axis=1, keepdims=True)
    beta = sigmoid(xs @ params["W_beta"].T + params["b_beta"])[:, :1] * (2 if negative else 1)
    expected = np.eye(4) - beta[..., None] * k[:, :, None] * k[:, None, :]
    np.testing.assert_allclose(found, np.broadcast_to(expected[:, None], found.shape), rtol=1e-12, atol=1e-14)
    values = np.linalg.eigvalsh(found)
    np.testing.assert_allclose(values[..., 1:], np.ones((7, 3, 3)), rtol=1e-12)
    np.testing.assert_allclose(values[..., 0], np.broadcast_to(1 - beta, (7, 3)), rtol=1e-11, atol=1e-13)


def test_a_deltanet_recalls_what_was_written_last(rng):
    """beta = 1: M k = v, whatever M was."""
    cell = DeltaNet(2, 3, key_size=4)
    params, xs = drawn(cell, rng)
    params |= {"W_beta": np.zeros((1, 2)), "b_beta": np.array([80.0])}
    params |= {name.replace("k", "q"): params[name] for name in ("W_k", "b_k")}
    k = np.linalg.norm(xs @ params["W_k"].T + params["b_k"], axis=1, keepdims=True)
    found = seen(cell, params, xs) / k
    np.testing.assert_allclose(found, xs @ params["W_v"].T + params["b_v"], rtol=1e-12)


PARITY = {
    "W_q": 0.0,
    "b_q": 1.0,
    "W_k": 0.0,
    "b_k": 1.0,
    "W_v": 0.0,
    "b_v": 0.5,
    "W_beta": 80.0,
    "b_beta": 0.0,
}
"""beta is 2 at an input of 1, and 0 at one of -1: M goes from 1/2 - d to 1/2 + d, and stays."""


def test_a_deltanet_with_negative_eigenvalues_tells_parity_exactly():
    cell = DeltaNet(1, 1, key_size=1, negative_eigenvalues=True)
    params = {n: np.full(p.shape, PARITY[n]) for n, p in cell.init_params(np.random.default_rng(0)).items()}
    episode = Parity(length=1000, asked="always").sample(np.random.default_rng(1), 4)
    for b in range(4):
        np.testing.assert_array_equal(seen(cell, params, episode.inputs[:, b])[:, 0], episode.targets[:, b])


def test_without_negative_eigenvalues_no_deltanet_tells_parity(rng):
    """Of ones alone, y_t = (1 - (1 - beta)^t) v (k . q): what never turns round passes a threshold once."""
    times = np.arange(1, 13)[:, None]
    for negative in (False, True) * 20:
        cell = DeltaNet(1, 3, key_size=2, negative_eigenvalues=negative)
        params, _ = drawn(cell, rng)
        q, k, v, beta = (params[f"W_{n}"][:, 0] + params[f"b_{n}"] for n in ("q", "k", "v", "beta"))
        beta = sigmoid(beta) * (1 + negative)
        expected = (1 - (1 - beta) ** times) * v * (k @ q / np.linalg.norm(k))
        found = seen(cell, params, np.ones((12, 1)))
        np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)
        if not negative:
            read = found @ rng.standard_normal(3)
            assert (np.diff(read) * np.sign(read[0]) >= -1e-12).all()


def test_selective_time_steps_may_be_long():
    params = SelectiveSSM(step_min=1e-3, step_max=1e4).init_params(np.random.default_rng(0))
    step = np.logaddexp(params["b_d"], 0)
    assert step.min() > 1e-3
    assert 1e3 < step.max() < 1e4
