"""Hopfield networks, piecewise linear maps and spikes, against their definitions and closed forms."""

from __future__ import annotations

import numpy as np
import pytest
from helpers import assert_gradient_of_the_loss, assert_trained_and_derived_by_jax

import gradsim
from gradsim.testing import check_cell, conformance
from gradsim_cells import LIF, ModernHopfield, ShallowPLRNN, Stack

SMALL = (
    ModernHopfield(2, 3, patterns=4, beta=1.5),
    ShallowPLRNN(2, 3, pieces=5),
    ShallowPLRNN(2, 3, pieces=5, clipped=True),
    LIF(2, 3),
    LIF(2, 3, reset="zero"),
    LIF(2, 3, detach_reset=False),
    LIF(2, 3, reset="zero", detach_reset=False),
)
each = pytest.mark.parametrize("cell", SMALL, ids=repr)

test_small_ones = conformance(*SMALL)


@each
def test_they_are_trained_and_derived_by_jax(cell):
    assert_trained_and_derived_by_jax(cell)


@pytest.mark.parametrize("cell", [c for c in SMALL if c.exact], ids=repr)
def test_gradients_are_those_of_the_loss(cell, inputs):
    assert_gradient_of_the_loss(cell, inputs)


@each
def test_a_stack_takes_them(cell):
    upper = ModernHopfield(cell.output_size, 3)
    check_cell(Stack((cell, upper)))


# Modern Hopfield.


def test_a_hopfield_step_is_a_mean_of_patterns_by_likeness(rng):
    cell = ModernHopfield(2, 3, patterns=4, beta=0.7)
    params, h, x = cell.init_params(rng), rng.standard_normal(3), rng.standard_normal(2)
    query = h + params["W"] @ x
    weights = [np.exp(0.7 * np.dot(pattern, query)) for pattern in params["U"]]
    expected = sum(w * p for w, p in zip(weights, params["U"], strict=True)) / sum(weights)
    np.testing.assert_allclose(cell.step(params, h, x, np), expected, rtol=1e-13)


def test_the_jacobian_of_hopfield_is_beta_times_a_covariance(rng):
    cell = ModernHopfield(2, 3, patterns=6, beta=0.7)
    params, h, x = cell.init_params(rng), rng.standard_normal((1, 3)), rng.standard_normal((1, 2))
    like = 0.7 * params["U"] @ (h[0] + params["W"] @ x[0])
    p = np.exp(like) / np.exp(like).sum()
    j = cell.step_jacobian(params, h, x)[0, 0]
    np.testing.assert_allclose(j, 0.7 * np.cov(params["U"].T, aweights=p, ddof=0), rtol=1e-12)
    np.testing.assert_allclose(j, j.T, rtol=1e-13)
    assert np.linalg.eigvalsh(j).min() > -1e-14


def test_a_stored_pattern_is_retrieved_in_one_step_and_its_start_forgotten(rng):
    cell = ModernHopfield(1, 64, patterns=20, beta=1.0)
    params = cell.init_params(rng)
    noisy = params["U"] + 0.5 * rng.standard_normal((20, 64))
    zero = np.zeros((20, 1))
    np.testing.assert_allclose(cell.step(params, noisy, zero, np), params["U"], atol=1e-3)
    assert np.abs(cell.step_jacobian(params, noisy, zero)).max() < 1e-3


def test_no_step_raises_the_energy(rng):
    cell = ModernHopfield(1, 5, patterns=8, beta=0.9)
    params, h = cell.init_params(rng), 2 * rng.standard_normal((30, 5))
    energies = []
    for _ in range(15):
        like = np.log(np.exp(0.9 * h @ params["U"].T).sum(-1)) / 0.9
        energies.append(0.5 * (h * h).sum(-1) - like)
        h = cell.step(params, h, np.zeros((30, 1)), np)
    assert (np.diff(energies, axis=0) <= 1e-12).all()


# Shallow PLRNN.


@pytest.mark.parametrize("clipped", [False, True])
def test_a_plrnn_step_and_its_jacobian(clipped, rng):
    cell = ShallowPLRNN(2, 3, pieces=5, clipped=clipped)
    params = cell.init_params(rng) | {"b": rng.standard_normal(3)}
    z, x = rng.standard_normal(3), rng.standard_normal(2)
    new = params["A"] * z + params["b"] + params["W"] @ x
    jacobian = np.diag(params["A"])
    for W_2, h_2, W_1 in zip(params["U"], params["c"], params["V"].T, strict=True):
        for sign, at in ((1, W_2 @ z + h_2), (-1, W_2 @ z))[: 1 + clipped]:
            new = new + sign * W_1 * max(at, 0)
            jacobian = jacobian + sign * np.outer(W_1, W_2) * (at > 0)
    np.testing.assert_allclose(cell.step(params, z, x, np), new, rtol=1e-13)
    np.testing.assert_allclose(cell.step_jacobian(params, z[None], x[None])[0, 0], jacobian, rtol=1e-12)


def test_a_clipped_plrnn_stays_bounded(rng):
    """|h| <= (|V| |c| + |b|) / (1 - max |A|), far out it only decays, and the plain one leaves."""
    params = ShallowPLRNN(1, 3, pieces=8, clipped=True).init_params(rng)
    params |= {n: 5 * params[n] for n in "UV"} | {"A": np.full(3, 0.8)}
    bound = np.abs(params["V"]).sum(1) @ np.ones(3) * np.abs(params["c"]).max() / 0.2
    sizes = {}
    for clipped in (True, False):
        cell = ShallowPLRNN(1, 3, pieces=8, clipped=clipped)
        h = rng.standard_normal((20, 3))
        for _ in range(100):
            h = cell.step(params, h, np.zeros((20, 1)), np)
        sizes[clipped] = np.abs(h).max()
    assert sizes[True] <= bound < 1e6 < sizes[False]
    far = 1e6 * rng.standard_normal((10, 3))
    j = ShallowPLRNN(1, 3, pieces=8, clipped=True).step_jacobian(params, far, np.zeros((10, 1)))
    np.testing.assert_allclose(j[:, 0], np.broadcast_to(0.8 * np.eye(3), (10, 3, 3)), atol=1e-12)


# Leaky integrate-and-fire.


@pytest.mark.parametrize("reset", ["subtract", "zero"])
def test_potentials_leak_fire_and_are_reset(reset, rng):
    cell = LIF(2, 3, decay=0.8, threshold=0.7, reset=reset)
    params, x = cell.init_params(rng), 2 * rng.standard_normal((30, 2))
    ds = gradsim.simulate(cell, x[:, None], params=params, record=["state"])
    z, v = np.zeros(3), np.zeros(3)
    fired = 0
    for t in range(30):
        drive = params["W"] @ x[t] + params["U"] @ z
        for i in range(3):
            rest = 0.8 * v[i] - 0.7 * z[i] if reset == "subtract" else (0.0 if z[i] else 0.8 * v[i])
            v[i] = rest + drive[i]
        z = np.array([1.0 if potential > 0.7 else 0.0 for potential in v])
        fired += z.sum()
        np.testing.assert_allclose(ds.state[t + 1, 0], np.concatenate((z, v)), rtol=1e-12)
    assert 10 < fired < 80
    assert cell.output_blocks == ("z",)


@pytest.mark.parametrize("detach_reset", [True, False])
def test_the_backward_pass_of_a_spike_is_that_of_the_surrogate(detach_reset, rng):
    cell = LIF(2, 3, decay=0.8, threshold=0.7, steepness=4.0, detach_reset=detach_reset)
    params, x = cell.init_params(rng), rng.standard_normal((1, 2))
    state = np.concatenate(([1.0, 0.0, 1.0], rng.standard_normal(3)))[None]
    v = cell.step(params, state, x, np)[0, 3:]
    dz = np.diag(1 / (1 + 4 * np.abs(v - 0.7)) ** 2)
    by_z = params["U"] - (0 if detach_reset else 0.7) * np.eye(3)
    expected = np.block([[dz @ by_z, 0.8 * dz], [by_z, 0.8 * np.eye(3)]])
    np.testing.assert_allclose(cell.step_jacobian(params, state, x)[0, 0], expected, rtol=1e-12)


def test_units_that_hear_no_spikes_forget_by_their_leak():
    cell = LIF(1, 3, decay=0.9)
    params = cell.init_params(np.random.default_rng(0))
    params["U"] = np.zeros((3, 3))
    x = np.random.default_rng(1).standard_normal((12, 1, 1))
    ds = gradsim.simulate(cell, x, params=params, record=["jacobian_product"])
    found = ds.jacobian_product.sel(time=12, source=2).values[0]
    np.testing.assert_allclose(found[3:, 3:], 0.9**10 * np.eye(3), rtol=1e-12)
    assert (found[:, :3] == 0).all()
