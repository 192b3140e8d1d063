"""Norms of all pairs, against exact arithmetic."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

import gradsim
from gradsim import Cell, Episode, Pairs, Task
from gradsim.engine.norms.finish import finish
from gradsim.engine.norms.tree import join
from gradsim.errors import OutOfRangeWarning

with_and_without_kernels = pytest.mark.parametrize("compiled", ["0", "1"], ids=["numpy", "compiled"])


@dataclass(frozen=True, eq=False)
class Blocked(Cell):
    """Linear, with diagonal blocks that change from step to step."""

    name = "blocked"
    groups: int
    size: int
    input_size: int = 1

    @property
    def blocks(self):
        return {"h": self.groups * self.size}

    @property
    def jacobian_groups(self):
        return self.groups

    @property
    def step_data(self):
        return ("jacobian",)

    def init_params(self, rng):
        return {"unused": np.zeros(1)}

    def step(self, params, state, inputs, xp, *, jacobian):
        parts = xp.reshape(state, (*state.shape[:-1], self.size, self.groups))
        new = (jacobian @ xp.matrix_transpose(parts)[..., None])[..., 0]
        return xp.reshape(xp.matrix_transpose(new), state.shape)

    def step_jacobian(self, params, state, inputs, *, jacobian):
        return jacobian


@dataclass(frozen=True, eq=False)
class Given(Task):
    """No input, and given Jacobians."""

    name = "given"
    jacobian: np.ndarray
    input_size = output_size = 1

    def sample(self, rng, batch):
        none = np.zeros((*self.jacobian.shape[:2], 1))
        return Episode(none, none, none[..., 0], {"jacobian": self.jacobian})

    def loss(self, outputs, targets, xp):
        return xp.sum(outputs * targets, axis=-1)


SIZES = [(1, 1), (5, 1), (3, 2), (2, 3), (2, 5), (1, 6)]


def exact_log_norms(jacobian, source):
    """log2 of ||P(t, source)||_F by integers of unlimited size: no rounding, no range."""
    steps, batch, groups, k, _ = jacobian.shape
    whole = np.vectorize(lambda x: Fraction(float(x)), otypes=[object])
    found = []
    for b in range(batch):
        products = [whole(np.eye(k)) for _ in range(groups)]
        for t in range(source, steps):
            products = [whole(jacobian[t, b, j]).dot(p) for j, p in enumerate(products)]
        square = sum(x * x for p in products for x in p.ravel())
        found.append(
            (math.log2(square.numerator) - math.log2(square.denominator)) / 2 if square else -math.inf
        )
    return found


KINDS = ["ordinary", "vanishing", "exploding", "uneven", "zeros", "singular", "nearly_annihilated"]
of_any_size = pytest.mark.parametrize("size", SIZES, ids=lambda s: f"{s[0]}x{s[1]}")
of_any_kind = pytest.mark.parametrize("kind", KINDS)
SOME_PAIRS = [(60, 0), (60, 25), (30, 0), (45, 10), (31, 29), (7, 7)]


def jacobians_of(kind, groups, k, rng):
    """Groups that part ways by hundreds of orders of magnitude, annihilated ones, singular blocks."""
    jacobian = rng.standard_normal((60, 2, groups, k, k)) / np.sqrt(k)
    if kind == "vanishing":
        jacobian *= 2.0**-40
    if kind == "exploding":
        jacobian *= 2.0**40
    if kind == "uneven":
        # Group 0 dominates first and dies later; the others then matter, though they were tiny.
        jacobian[:30, :, 0] *= 2.0**30
        jacobian[30:, :, 0] *= 2.0**-45
    if kind == "zeros":
        jacobian[20, 0, 0] = 0
    if kind == "singular":
        jacobian[..., 0, :] = 0
    if kind == "nearly_annihilated":
        # The first half leaves one direction, which the second half multiplies by 1e-9.
        jacobian[29, ..., 1:, :] = 0
        jacobian[30, ..., :, 0] *= 1e-9
    return jacobian


@of_any_size
@of_any_kind
def test_norms_of_any_blocks_in_exact_arithmetic(size, kind, rng):
    groups, k = size
    jacobian = jacobians_of(kind, groups, k, rng)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OutOfRangeWarning)
        ds = gradsim.simulate(
            Blocked(groups, k),
            task=Given(jacobian),
            batch=2,
            record=["product_norm", "product_spectral_norm"],
        )
    for t, source in SOME_PAIRS:
        exact = np.array(exact_log_norms(jacobian[:t], source)) * np.log10(2)
        np.testing.assert_allclose(ds.product_norm_log10[t, source], exact, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    ("dtype", "octaves", "behind", "tolerance"),
    [("float32", 14.0, 53.0, 1e-7), ("float64", 120.0, 360.0, 5e-14)],
)
def test_a_group_that_is_nothing_beside_another_adds_nothing(dtype, octaves, behind, tolerance):
    """A group falls far below another, and its exponent further, while what is left of both parts again."""
    powers = np.array([[octaves, -octaves], [0, -behind], [-octaves, octaves]])
    jacobian = 2.0 ** powers[:, None, :, None, None]
    ds = gradsim.simulate(
        Blocked(2, 1),
        task=Given(jacobian),
        batch=1,
        dtype=dtype,
        record=["product_norm"],
        pairs=Pairs(max_lag=3),
    )
    exact = exact_log_norms(jacobian.astype(dtype), 1)[0] * np.log10(2)
    assert ds.product_norm_log10.sel(source=1, lag=2).item() == pytest.approx(exact, abs=tolerance)


def norms_of(jacobian):
    """Norms of all pairs and their log10, (time, source, batch)."""
    steps, batch = jacobian.shape[:2]
    squares = np.full((batch, steps + 1, steps + 1), np.nan)
    exponents = np.zeros(squares.shape, dtype=np.int32)
    join(jacobian, squares, exponents)
    assert np.isnan(squares[:, *np.triu_indices(steps + 1, 1)]).all()
    found = np.empty((2, steps + 1, steps + 1, batch))
    finish(squares, exponents, 0, *found)
    return found


@with_and_without_kernels
@of_any_size
@of_any_kind
def test_halving_gives_the_norms_of_the_products(size, kind, compiled, rng, monkeypatch):
    """Inner products of Gram matrices, and pairs that have to be multiplied out."""
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    groups, k = size
    jacobian = jacobians_of(kind, groups, k, rng)
    norms, logs = norms_of(jacobian)
    for t, source in SOME_PAIRS:
        exact = np.array(exact_log_norms(jacobian[:t], source)) * math.log10(2)
        np.testing.assert_allclose(logs[t, source], exact, rtol=1e-12, atol=3e-12)
        with np.errstate(over="ignore"):
            np.testing.assert_allclose(norms[t, source], 10**exact, rtol=1e-10, atol=1e-323)
    later = np.triu_indices(61, 1)
    assert np.isnan(norms[later]).all()
    assert np.isnan(logs[later]).all()


def test_all_pairs_in_float32_have_the_digits_of_float32(rng):
    """Against products in float64 of the same Jacobians, long ones of rank one among them."""
    jacobian = (rng.standard_normal((100, 1, 1, 24, 24)) * 0.9 / np.sqrt(24)).astype(np.float32)
    norms, _ = norms_of(jacobian)
    products = np.zeros((0, 24, 24))
    for t, step in enumerate(jacobian[:, 0, 0].astype(np.float64)):
        products = np.concatenate((step @ products, step[None]))
        np.testing.assert_allclose(norms[t + 1, : t + 1, 0], np.linalg.norm(products, axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("power", [-140, 140])
def test_float32_jacobians_at_the_end_of_their_range(power, rng):
    """A nilpotent-like pair of directions that swaps 1 and 2**power: nothing is taken for zero."""
    swap = np.zeros((40, 1, 1, 6, 6), dtype=np.float32)
    swap[..., 0, 1], swap[..., 1, 0] = 1, 2.0 ** (-abs(power) + 20)
    if power > 0:
        swap *= np.float32(2.0**100)
    _, logs = norms_of(swap)
    assert logs[40, 0, 0] == pytest.approx(exact_log_norms(swap, 0)[0] * math.log10(2), rel=1e-12)


def test_halving_in_float32_is_as_good_as_multiplying_out(rng):
    """Long products have rank one, and their inner products are small: none may lose its digits."""
    jacobian = (rng.standard_normal((200, 3, 1, 40, 40)) / np.sqrt(40)).astype(np.float32)
    norms, _ = norms_of(jacobian)
    product = np.eye(40)
    for t in range(200):
        product = jacobian[t, 1, 0].astype(np.float64) @ product
        assert norms[t + 1, 0, 1] == pytest.approx(np.linalg.norm(product), rel=2e-5)
