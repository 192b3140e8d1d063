"""Cells with a memory beside their units, against their definitions and what is known of them."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_gradient_of_the_loss, assert_trained_and_derived_by_jax
from stepping import drawn, seen, sigmoid, taken

from gradsim.testing import conformance
from gradsim_cells import NTM, Elman, FastWeights

SMALL = (
    NTM(2, 2, slots=3, width=2),
    NTM(2, 2, slots=3, width=2, addressing="content"),
    FastWeights(2, 3),
    FastWeights(2, 3, normalised=False, activation="tanh", inner_steps=2),
)
each = pytest.mark.parametrize("cell", SMALL, ids=repr)

test_small_ones = conformance(*SMALL)


@each
def test_they_are_trained_and_derived_by_jax(cell):
    assert_trained_and_derived_by_jax(cell)


@each
def test_gradients_are_those_of_the_loss(cell, inputs):
    assert_gradient_of_the_loss(cell, inputs)


# Neural Turing machine.


def turing_machine(cell, params, xs):
    """The states of one sequence, slot by slot, as the paper goes through it."""
    slots, full = cell.slots, cell.addressing == "full"
    h, memory = np.zeros(cell.hidden_size), cell.initial_state()[cell.block("memory")].reshape(slots, -1)
    places = [[1.0] + [0.0] * (slots - 1)] * 2

    def address(key, which, h, memory):
        a = (params["S"] @ h + params["s"]).reshape(2, -1)[which]
        cosines = [key @ row / np.sqrt((key @ key + 1e-6) * (row @ row + 1e-6)) for row in memory]
        like = [np.exp(np.log(1 + np.exp(a[0])) * cosine) for cosine in cosines]
        content = np.array(like) / sum(like)
        if not full:
            return content
        gated = sigmoid(a[1]) * content + (1 - sigmoid(a[1])) * np.array(places[which])
        moving = dict(zip((-1, 0, 1), np.exp(a[3:]) / np.exp(a[3:]).sum(), strict=True))
        moved = [sum(moving[j] * gated[(i - j) % slots] for j in moving) for i in range(slots)]
        sharp = np.array(moved) ** (1 + np.log(1 + np.exp(a[2])))
        return sharp / sharp.sum()

    for x in xs:
        weights = places[0] if full else address(np.tanh(keys(params, h)[0]), 0, h, memory)
        r = sum(w * row for w, row in zip(weights, memory, strict=True))
        h = np.tanh(params["W"] @ x + params["U"] @ h + params["R"] @ r + params["b"])
        to_read, to_write, erase, add = keys(params, h)
        write, new = address(np.tanh(to_write), 1, h, memory), memory.copy()
        for i in range(slots):
            new[i] = memory[i] * (1 - write[i] * sigmoid(erase)) + write[i] * np.tanh(add)
        memory, places = new, [address(np.tanh(to_read), 0, h, new), write]
        read = sum(w * row for w, row in zip(places[0], memory, strict=True))
        yield np.concatenate((h, memory.ravel(), *(places if full else []))), np.concatenate((h, read))


def keys(params, h):
    return np.split(params["K"] @ h + params["k"], 4)


@pytest.mark.parametrize("addressing", ["full", "content"])
def test_a_turing_machine_reads_and_writes_as_its_paper_says(addressing, rng):
    cell = NTM(2, 3, slots=4, width=5, addressing=addressing)
    params, xs = drawn(cell, rng)
    states, read = zip(*turing_machine(cell, params, xs), strict=True)
    found = taken(cell, params, xs)
    np.testing.assert_allclose(found[0], states, rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(found[1], read, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("addressing", ["full", "content"])
def test_memory_that_nothing_is_written_to_is_carried_whole(addressing):
    """Without what is erased and added dM_t/dM_{t-1} = I, and the direct share of J is that."""
    cell = NTM(2, 3, slots=4, width=5, addressing=addressing)
    params = cell.init_params(np.random.default_rng(0))
    rows = slice(10, 20)  # erase and add
    params["K"][rows], params["k"][rows] = 0.0, 0.0
    params["k"][10:15] = -800.0
    state, x, memory = cell.initial_state()[None], np.ones((1, 2)), cell.block("memory")
    j = cell.step_jacobian(params, state, x)[0, 0]
    np.testing.assert_allclose(j[memory, memory], np.eye(20), atol=1e-13)
    np.testing.assert_allclose(cell.step(params, state, x, np)[0, memory], state[0, memory], rtol=1e-13)


def test_a_sharp_head_reads_the_row_that_is_like_its_key():
    cell = NTM(1, 2, slots=4, width=5, addressing="content")
    params = cell.init_params(np.random.default_rng(0))
    memory = np.random.default_rng(3).standard_normal((4, 5))
    params["K"][:] = 0.0
    params["k"][:5] = np.arctanh(0.9 * memory[2] / np.abs(memory[2]).max())
    params["s"][:] = 200.0
    found = cell.output(params, np.concatenate((np.zeros(2), memory.ravel())), np.zeros(1), np)
    np.testing.assert_allclose(found[2:], memory[2], rtol=1e-8)


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_a_head_that_ignores_content_goes_round_the_ring(shift):
    cell = NTM(1, 2, slots=5, width=2)
    params = {n: np.zeros_like(p) for n, p in cell.init_params(np.random.default_rng(0)).items()}
    for which in (0, 6):
        params["s"][which : which + 3] = 0.0, -800.0, 50.0
        params["s"][which + 4 + shift] = 800.0
    states, _ = taken(cell, params, np.zeros((7, 1)))
    for t, state in enumerate(states, start=1):
        for name in ("read", "write"):
            np.testing.assert_allclose(state[cell.block(name)], np.eye(5)[shift * t % 5], atol=1e-12)


def test_a_head_that_stays_where_its_content_is_addresses_by_content(rng):
    cell = NTM(2, 3, slots=4, width=5)
    content = NTM(2, 3, slots=4, width=5, addressing="content")
    params, xs = drawn(content, rng)
    params["R"][:] = 0.0  # heads start elsewhere
    whole = params | {"S": np.zeros((12, 3)), "s": np.tile([0.0, 800.0, -800.0, -800.0, 0.0, -800.0], 2)}
    whole["S"][::6], whole["s"][::6] = params["S"], params["s"]
    found = seen(cell, whole, xs)
    np.testing.assert_allclose(found, seen(content, params, xs), rtol=1e-6)


# Fast weights.


@pytest.mark.parametrize("normalised", [True, False])
@pytest.mark.parametrize("inner_steps", [1, 3])
def test_fast_weights_attend_to_past_states_by_likeness(normalised, inner_steps, rng):
    """No matrix here: each past state weighs in by its product with the present one."""
    rate = 0.3 if normalised else 0.02
    cell = FastWeights(2, 4, decay=0.9, rate=rate, inner_steps=inner_steps, normalised=normalised)
    params, xs = drawn(cell, rng, 0.3)
    past, h = [], np.zeros(4)
    states, _ = taken(cell, params, xs)
    for x, state in zip(xs, states, strict=True):
        slow = params["W"] @ x + params["U"] @ h
        h = np.maximum(slow + params["b"], 0)
        for _ in range(inner_steps):
            z = slow + sum(rate * 0.9**age * (old @ h) * old for age, old in enumerate(reversed(past)))
            if normalised:
                z = params["g"] * (z - z.mean()) / np.sqrt(z.var() + 1e-5)
            h = np.maximum(z + params["b"], 0)
        past.append(h)
        np.testing.assert_allclose(state[:4], h, rtol=1e-11, atol=1e-13)


def test_without_a_rate_they_are_an_elman_network_beside_a_memory_that_decays(rng):
    cell = FastWeights(2, 3, rate=0.0, decay=0.8, normalised=False, activation="tanh")
    params, xs = drawn(cell, rng)
    states, _ = taken(cell, params, xs)
    np.testing.assert_allclose(states[:, :3], taken(Elman(2, 3), params, xs)[0], rtol=1e-13)
    state = np.concatenate((rng.standard_normal(3), np.zeros(9)))
    j = cell.step_jacobian(params, state[None], xs[:1])[0, 0]
    np.testing.assert_allclose(j[3:, 3:], 0.8 * np.eye(9), atol=1e-14)
