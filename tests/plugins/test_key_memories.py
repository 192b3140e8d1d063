"""Memories that are written to with keys and gates, against their papers and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from stepping import drawn, seen, sigmoid

from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_cells import MLSTM, SLSTM, DeltaNet
from gradsim_initializers import Identity
from gradsim_tasks import Parity

test_kit = conformance(
    SLSTM(2, 4, heads=2),
    SLSTM(2, 3, forget="exp"),
    MLSTM(2, 3, key_size=2),
    MLSTM(2, 3, key_size=2, soft_cap=2.0),
    DeltaNet(2, 3, key_size=2),
    DeltaNet(2, 2, key_size=3, negative_eigenvalues=True),
    DeltaNet(2, 3, key_size=2, gated=True),
)


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
        if cell.gated:
            memory = memory * (1 + np.exp(p["W_alpha"] @ x + p["b_alpha"])) ** -np.exp(p["log_A"])
        memory = memory @ (np.eye(len(k)) - beta * np.outer(k, k)) + beta * np.outer(v, k)
        yield memory @ q


BY_HAND = [
    *((f, SLSTM(2, 4, heads=k)) for f in (slstm, slstm_stabilised) for k in (1, 2)),
    *((f, SLSTM(2, 3, forget="exp")) for f in (slstm, slstm_stabilised)),
    (mlstm, MLSTM(2, 3, key_size=2)),
    (mlstm_stabilised, MLSTM(2, 3, key_size=2)),
    *(
        (delta_net, DeltaNet(2, 3, key_size=2, negative_eigenvalues=negative, gated=gated))
        for negative in (False, True)
        for gated in (False, True)
    ),
]


@pytest.mark.parametrize(("by_hand", "cell"), BY_HAND, ids=lambda x: getattr(x, "__name__", repr(x)))
def test_a_cell_reads_as_its_paper_has_it(by_hand, cell, rng):
    params, xs = drawn(cell, rng)
    np.testing.assert_allclose(
        seen(cell, params, xs), np.stack(list(by_hand(cell, params, xs))), rtol=1e-11, atol=1e-13
    )


def test_heads_of_an_slstm_have_one_size():
    with pytest.raises(InputError, match="heads=3 should divide hidden_size=4"):
        SLSTM(1, 4, heads=3)


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


def test_products_of_an_mlstm_are_those_of_its_forget_gates(rng):
    cell = MLSTM(2, 3, key_size=2)
    params, xs = drawn(cell, rng)
    f = sigmoid(xs @ params["W_f"].T + params["b_f"])
    found = cell.step_jacobian(params, rng.standard_normal((7, 8)), xs)
    np.testing.assert_allclose(found, np.broadcast_to(f[..., None, None], (7, 8, 1, 1)), rtol=1e-12)


def test_capped_input_gates_of_an_mlstm_may_be_far_out_of_range_of_float32(rng):
    """A gate of e^15 leaves v times the sign of k . q, as whatever was there before is little beside."""
    cell = MLSTM(1, 2, key_size=2, soft_cap=15)
    params = {n: np.asarray(p, dtype="float32") for n, p in drawn(cell, rng)[0].items()}
    params |= {"W_i": np.array([[500.0]], dtype="float32"), "b_i": np.zeros(1, dtype="float32")}
    q, k, v, o = (params[f"W_{n}"][:, 0] + params[f"b_{n}"] for n in "qkvo")
    with np.errstate(over="raise", invalid="raise"):
        found = seen(cell, params, np.array([[-1.0], [-0.3], [1.0]], dtype="float32"))[-1]
    np.testing.assert_allclose(found, sigmoid(o) * v * np.sign(k @ q), rtol=1e-4)


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


def test_a_gated_deltanet_goes_on_by_alpha_times_that(rng):
    params, xs = drawn(DeltaNet(2, 3, gated=True), rng)
    alpha = (1 + np.exp(xs @ params["W_alpha"].T + params["b_alpha"])) ** -np.exp(params["log_A"])
    state = rng.standard_normal((7, 12))
    found, plain = (DeltaNet(2, 3, gated=g).step_jacobian(params, state, xs) for g in (True, False))
    np.testing.assert_allclose(found, alpha[..., None, None] * plain, rtol=1e-11, atol=1e-14)


def test_a_gated_deltanet_that_forgets_nothing_is_a_deltanet(rng):
    params, xs = drawn(DeltaNet(2, 3, gated=True), rng)
    params |= {"W_alpha": np.zeros((1, 2)), "b_alpha": np.array([-800.0])}
    found = seen(DeltaNet(2, 3, gated=True), params, xs)
    np.testing.assert_array_equal(found, seen(DeltaNet(2, 3), params, xs))


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
