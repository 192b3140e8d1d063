"""Telescoped growth against exact spectra and QR at every step in long double."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.engine import lyapunov_kernels
from gradsim.engine.lyapunov import LyapunovSum, exponents


def orthogonal(rng, steps, k, batch=1, groups=1):
    return np.linalg.qr(rng.standard_normal((steps, batch, groups, k, k)))[0]


def gaussian(rng, steps, k, batch=1, groups=1):
    return rng.standard_normal((steps, batch, groups, k, k)) / np.sqrt(k)


def saturating(rng, steps, k):
    """Step Jacobians of tanh(W h + noise), whose spectrum is wide."""
    weights, state = rng.standard_normal((k, k)) / np.sqrt(k), np.zeros(k)
    found = []
    for _ in range(steps):
        state = np.tanh(weights @ state + rng.standard_normal(k))
        found.append((1 - state * state)[:, None] * weights)
    return np.array(found)[:, None, None]


def every_step(blocks):
    """Modified Gram-Schmidt at every step, in long double; (batch, g * k)."""
    steps, batch, groups, k, _ = blocks.shape
    basis = np.broadcast_to(np.eye(k, dtype=np.longdouble), (batch, groups, k, k))
    grown = np.zeros((batch, groups, k), dtype=np.longdouble)
    for step in blocks.astype(np.longdouble):
        basis = np.einsum("bgij,bgjk->bgik", step, basis)
        for i in range(k):
            size = np.sqrt((basis[..., i] ** 2).sum(axis=-1))
            grown[..., i] += np.log(size)
            basis[..., i] /= size[..., None]
            share = np.einsum("bgi,bgij->bgj", basis[..., i], basis[..., i + 1 :])
            basis[..., i + 1 :] -= basis[..., i][..., None] * share[..., None, :]
    found = (grown / steps).reshape(batch, -1).astype(np.float64)
    return np.sort(found)[:, ::-1]


@pytest.mark.parametrize("k", [8, 11, 40, 65, 130])
def test_orthogonal_steps_neither_grow_nor_shrink(k, rng):
    np.testing.assert_allclose(exponents(orthogonal(rng, 60, k)), 0, rtol=0, atol=1e-15)


@pytest.mark.parametrize(
    ("make", "steps", "k"),
    [(gaussian, 200, 9), (gaussian, 200, 40), (saturating, 200, 40), (gaussian, 40, 66)],
)
def test_exponents_are_those_of_long_double(make, steps, k, rng):
    blocks = make(rng, steps, k)
    np.testing.assert_allclose(exponents(blocks), every_step(blocks), rtol=0, atol=1e-10)


def test_batches_and_groups(rng):
    blocks = gaussian(rng, 30, 40, batch=3, groups=2)
    np.testing.assert_allclose(exponents(blocks), every_step(blocks), rtol=0, atol=1e-10)
    apart = [exponents(blocks[:, b : b + 1])[0] for b in range(3)]
    np.testing.assert_array_equal(exponents(blocks), apart)


def test_steps_may_be_read_only(rng):
    blocks = gaussian(rng, 20, 40)
    before = exponents(blocks)
    blocks.flags.writeable = False
    np.testing.assert_array_equal(exponents(blocks), before)


def test_float32(rng):
    blocks = gaussian(rng, 100, 40).astype(np.float32)
    np.testing.assert_array_equal(exponents(blocks), exponents(blocks.astype(np.float64)))


def test_steps_may_come_in_parts(rng):
    blocks = gaussian(rng, 100, 48)
    growth = LyapunovSum(1, 1, 48)
    for part in np.split(blocks, [1, 2, 40, 43]):
        growth.add(part)
        growth.exponents()  # changes nothing
    np.testing.assert_allclose(growth.exponents(), exponents(blocks), rtol=0, atol=1e-10)


@pytest.mark.parametrize("k", [48, 100])
def test_a_diagonal_or_triangular_step(k, rng):
    """Of the size of its diagonal, where that decreases or nothing lies beside it."""
    diagonal = np.logspace(3, -3, k)
    steps = np.broadcast_to(np.diag(rng.permutation(diagonal)), (50, 1, 1, k, k))
    np.testing.assert_allclose(exponents(steps)[0], np.log(diagonal), rtol=0, atol=1e-12)
    upper = np.triu(rng.standard_normal((50, 1, 1, k, k)), 1) / k + np.diag(diagonal)
    np.testing.assert_allclose(exponents(upper)[0], np.log(diagonal), rtol=0, atol=1e-12)


TURN = np.linalg.qr(np.random.default_rng(5).standard_normal((48, 48)))[0]
UP = TURN @ np.diag([1e4] * 24 + [1e-5] * 24) @ TURN.T
DOWN = TURN @ np.diag([1e-4] * 24 + [1e5] * 24) @ TURN.T


@pytest.mark.parametrize("changed", [[UP, DOWN], [UP], [np.diag(np.logspace(0, -12, 48))]])
def test_what_cancels_does_not_go_unseen(changed, rng):
    blocks = orthogonal(rng, 60, 48)
    blocks[30 : 30 + len(changed), 0, 0] = changed
    np.testing.assert_allclose(exponents(blocks), every_step(blocks), rtol=0, atol=1e-8)


@pytest.mark.parametrize("size", [1e-140, 1e-200, 1e140, 1e200])
def test_beyond_the_range_of_a_product(size, rng):
    blocks = gaussian(rng, 20, 48)
    np.testing.assert_allclose(exponents(size * blocks), np.log(size) + exponents(blocks), rtol=1e-12)


def test_annihilated_directions(rng):
    """As rows of zeros; the others go on."""
    blocks = gaussian(rng, 40, 48, batch=2)
    blocks[20, 0, 0, 7] = blocks[25, 0, 0, 9] = 0
    found = exponents(blocks)
    assert np.isneginf(found[0, 47:]).all()
    assert np.isfinite(found[0, :46]).all()
    assert np.isfinite(found[1]).all()


ROUNDING, WRONG = 2.0**-53, 1e-8


def test_intervals_are_as_long_as_steps_allow(rng):
    """An orthogonal run is not taken step by step, a wide one not far, a singular step not at all."""

    def telescope(blocks, longest=32):
        basis, grown = np.eye(48), np.zeros(48)
        found = lyapunov_kernels.telescope(blocks[:, 0, 0], basis, grown, 1, longest, ROUNDING, WRONG)
        np.testing.assert_allclose(basis.T @ basis, np.eye(48), atol=0.1)
        return found

    assert telescope(orthogonal(rng, 100, 48)) == (100, 32)
    assert telescope(orthogonal(rng, 100, 48), longest=5) == (100, 5)
    done, length = telescope(gaussian(rng, 100, 48))
    assert (done, length) == (100, pytest.approx(3, abs=2))
    singular = orthogonal(rng, 60, 48)
    singular[53, 0, 0, 5] = 0
    assert telescope(singular)[0] == 53


@pytest.mark.parametrize("k", [2, 4, 7, 48, 66])
def test_inverse_factors(k, rng):
    rows = rng.standard_normal((k, k + 2))
    gram = rows @ rows.T
    found = np.triu(gram) + np.tril(np.full((k, k), np.nan), -1)  # the upper half is read
    lyapunov_kernels.inverse_factor(found)
    np.testing.assert_allclose(found, np.linalg.inv(np.linalg.cholesky(gram)), rtol=1e-9, atol=1e-9)
    assert (np.triu(found, 1) == 0).all()


@pytest.mark.parametrize("bad", [-1.0, 0.0, np.nan])
def test_no_factor(bad):
    matrix = np.diag([1.0] * 4 + [bad] + [1.0] * 4)
    lyapunov_kernels.inverse_factor(matrix)
    assert not np.isfinite(matrix.diagonal()).all()
