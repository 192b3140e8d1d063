"""Jacobian products: identities, layouts, range, threads."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import pytest

import gradsim
from gradsim import Cell, Episode, Pairs, Task
from gradsim.engine.jacobians import ScaledJacobians
from gradsim.engine.norms.tree import all_norms
from gradsim.errors import OutOfRangeWarning
from gradsim_cells import GRU, LRU, LSTM, Elman, Linear, MinGRU

CELLS = [Elman(2, 5), GRU(2, 4), LSTM(2, 3), MinGRU(2, 6), LRU(2, 3)]
with_and_without_kernels = pytest.mark.parametrize("compiled", ["0", "1"], ids=["numpy", "compiled"])
each_cell = pytest.mark.parametrize("cell", CELLS, ids=lambda c: c.name)


@each_cell
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_semigroup(cell, inputs, dtype):
    """P(t, k) = P(t, j) P(j, k), and P(t, t-1) = J_t, P(k, k) = I."""
    ds = gradsim.simulate(cell, inputs, record=["jacobian_product", "step_jacobian"], dtype=dtype)
    p = ds.jacobian_product.values
    assert p.dtype == dtype
    close = {"rtol": 1e-5, "atol": 1e-6} if dtype == "float32" else {"rtol": 1e-12, "atol": 1e-14}
    for t, j, k in [(12, 7, 0), (12, 11, 3), (5, 5, 2), (9, 4, 4)]:
        np.testing.assert_allclose(p[t, k], p[t, j] @ p[j, k], **close)
    for t in range(1, 13):
        np.testing.assert_allclose(p[t, t - 1], ds.step_jacobian.sel(step=t), rtol=1e-7)
        assert (p[t, t] == np.eye(p.shape[-1])).all()
        assert np.isnan(p[t - 1, t]).all()


@each_cell
def test_sizes_are_those_of_the_products(cell, inputs):
    record = ["jacobian_product", "product_norm", "product_spectral_norm", "product_spectrum"]
    ds = gradsim.simulate(cell, inputs, record=record)
    p = ds.jacobian_product.values
    if p.ndim == 5:
        p = p[:, :, :, None]
    t, k = np.tril_indices(13)
    blocks = p[t, k]
    np.testing.assert_allclose(
        ds.product_norm.values[t, k], np.sqrt((blocks**2).sum(axis=(-3, -2, -1))), rtol=1e-12
    )
    singular = np.sort(np.linalg.svd(blocks, compute_uv=False).reshape(len(t), 3, -1))[..., ::-1]
    np.testing.assert_allclose(ds.product_spectral_norm.values[t, k], singular[..., 0], rtol=1e-10)
    ours = ds.product_spectrum.values[t, k]
    resolved = ~np.isnan(ours)
    assert resolved[..., 0].all()
    np.testing.assert_allclose(ours[resolved], singular[resolved], rtol=1e-2)
    np.testing.assert_allclose(ds.product_norm_log10, np.log10(ds.product_norm), atol=1e-12)


@each_cell
def test_narrower_pairs_hold_the_same_numbers(cell, inputs):
    record = ["jacobian_product", "product_norm", "loss_adjoint_norm"]
    everything = gradsim.simulate(cell, inputs, record=record)
    chosen = gradsim.simulate(cell, inputs, record=record, pairs=Pairs(times=(-1, 4), sources=(0, 3, 9)))
    band = gradsim.simulate(cell, inputs, record=record, pairs=Pairs(max_lag=3))
    some = gradsim.simulate(cell, inputs, record=record, pairs=Pairs(max_lag=3, sources=(2, 11)))
    assert list(chosen.chosen_time) == [4, 12]
    for name in record:
        whole = everything[name]
        for t, k in [(4, 0), (12, 9), (12, 3)]:
            ours = chosen[name].sel(chosen_time=t, source=k)
            np.testing.assert_allclose(ours, whole.sel(time=t, source=k), rtol=1e-12)
        assert np.isnan(chosen[name].sel(chosen_time=4, source=9)).all()
        for k in range(13):
            for lag in range(4):
                ours = band[name].sel(source=k, lag=lag)
                if k + lag <= 12:
                    np.testing.assert_allclose(ours, whole.sel(time=k + lag, source=k), rtol=1e-12)
                else:
                    assert np.isnan(ours).all()
        np.testing.assert_allclose(some[name], band[name].sel(source=[2, 11]), rtol=1e-12)


def test_singular_values_of_a_scaled_rotation_are_its_scale(rng):
    q, _ = np.linalg.qr(rng.standard_normal((8, 8)))
    params = {"W": 0.9 * q, "U": np.zeros((8, 1))}
    ds = gradsim.simulate(Linear(1, 8), np.zeros((30, 1, 1)), params=params, record=["product_spectrum"])
    np.testing.assert_allclose(ds.product_spectrum[-1, 0, 0], 0.9**30, rtol=1e-11)


def test_values_below_rounding_are_not_invented(rng):
    """The small singular values of W^40 are lost in a product; they must not look like results."""
    params = {"W": np.diag([1.0, 0.1]), "U": np.zeros((2, 1))}
    rotation = np.array([[0.6, -0.8], [0.8, 0.6]])
    params["W"] = rotation @ params["W"] @ rotation.T
    ds = gradsim.simulate(
        Linear(1, 2), np.zeros((40, 1, 1)), params=params, record=["product_spectrum", "lyapunov"]
    )
    assert ds.product_spectrum[-1, 0, 0, 0].item() == pytest.approx(1)
    assert np.isnan(ds.product_spectrum[-1, 0, 0, 1])
    assert ds.lyapunov[0, 1].item() == pytest.approx(np.log(0.1), rel=2e-2)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("scale", [0.05, 30.0])
def test_two_thousand_steps_beyond_the_range(rng, scale, dtype):
    """Norms of 1e-2600 and 1e+2950 in closed form."""
    q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
    params = {"W": scale * q, "U": np.zeros((6, 1))}
    with pytest.warns(OutOfRangeWarning):
        ds = gradsim.simulate(
            Linear(1, 6),
            np.zeros((2000, 2, 1)),
            params=params,
            dtype=dtype,
            record=["product_norm", "product_spectral_norm", "adjoint_norm", "loss_adjoint_norm"],
            pairs=Pairs(sources=(0, 1999)),
        )
    exact = np.asarray(params["W"], dtype=dtype).astype(float)
    per_step = np.log10(np.linalg.svd(exact, compute_uv=False).mean())
    tolerance = 1e-10 if dtype == "float64" else 1e-4
    steps = np.arange(2001)
    spectral = ds.product_spectral_norm_log10.sel(source=0, batch=1)
    assert np.isfinite(spectral).all()
    np.testing.assert_allclose(spectral, per_step * steps, rtol=tolerance, atol=tolerance)
    frobenius = ds.product_norm_log10.sel(source=0, batch=0)
    np.testing.assert_allclose(frobenius, per_step * steps + np.log10(6) / 2, rtol=tolerance, atol=tolerance)
    last = np.log10(np.sqrt(6) / 2)
    np.testing.assert_allclose(
        ds.adjoint_norm_log10.sel(batch=0), last + per_step * steps[::-1], rtol=tolerance, atol=tolerance
    )
    rows = ds.loss_adjoint_norm_log10.sel(time=2000, source=0, batch=0)
    np.testing.assert_allclose(rows, last + per_step * 2000, rtol=tolerance)
    # The linear variable is a number or NaN, never 0 or infinity.
    linear = ds.product_norm.sel(source=0)
    assert np.isnan(linear[-1]).all()
    assert ((linear > 0) | np.isnan(linear)).all()


def test_diagonal_units_keep_ranges_of_their_own():
    """A unit that has long vanished still has a direction beside one that has not."""
    cell = MinGRU(input_size=1, hidden_size=2)
    params = {"W": np.zeros((4, 1)), "b": np.array([-40.0, 5.0, 0, 0])}
    with pytest.warns(OutOfRangeWarning, match="product_spectrum"):
        ds = gradsim.simulate(cell, np.zeros((400, 1, 1)), params=params, record=["product_spectrum"])
    expected = 400 * np.log10(1 - 1 / (1 + np.exp(-5)))
    assert ds.product_spectrum_log10[-1, 0, 0, 1].item() == pytest.approx(expected, rel=1e-10)


def test_an_annihilated_product_is_zero():
    cell = Elman(1, 3, activation="relu")
    params = {"W": np.eye(3), "U": np.full((3, 1), -1.0), "b": np.zeros(3)}
    ds = gradsim.simulate(cell, np.ones((5, 1, 1)), params=params, record=["product_norm", "lyapunov"])
    assert (ds.product_norm.values[np.tril_indices(6, -1)] == 0).all()
    assert (ds.product_norm_log10[1, 0] == -np.inf).all()
    assert (ds.lyapunov == -np.inf).all()


@with_and_without_kernels
@each_cell
def test_same_bits_for_any_number_of_threads(cell, compiled, rng, monkeypatch):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    x = rng.standard_normal((70, 9, 2))
    record = ["product_norm", "product_spectral_norm", "loss_adjoint_norm", "adjoint", "gradient"]
    runs = [gradsim.simulate(cell, x, record=record, threads=n) for n in (1, 2, 5)]
    assert runs[0].identical(runs[1])
    assert runs[0].identical(runs[2])


@each_cell
@pytest.mark.parametrize("steps", [1, 2, 8, 9, 17, 33])
def test_kernels_and_numpy_give_the_same_norms(cell, steps, rng, monkeypatch):
    """Also where time does not divide into intervals of one length."""
    found = []
    for compiled in ("0", "1"):
        monkeypatch.setenv("GRADSIM_COMPILED", compiled)
        x = np.random.default_rng(0).standard_normal((steps, 3, 2))
        found.append(gradsim.simulate(cell, x, record=["product_norm"]).product_norm.values)
    np.testing.assert_allclose(*found, rtol=1e-12)
    assert np.isfinite(found[0][np.tril_indices(steps + 1)]).all()


@each_cell
def test_products_on_disk_are_those_in_memory(cell, inputs, tmp_path):
    """Bit by bit, and NaN where there is none."""
    setting = dict(record=["jacobian_product", "product_norm"], dtype="float32")
    in_memory = gradsim.simulate(cell, inputs, **setting)
    with gradsim.simulate(cell, inputs, store=tmp_path / "run", **setting) as on_disk:
        for name in in_memory.data_vars:
            np.testing.assert_array_equal(on_disk[name], in_memory[name])


def test_one_step_and_one_batch_element():
    ds = gradsim.simulate(Elman(1, 2), np.ones((1, 1, 1)), record=["jacobian_product", "adjoint", "lyapunov"])
    assert ds.jacobian_product.shape == (2, 2, 1, 2, 2)
    assert np.isfinite(ds.lyapunov).all()


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


@with_and_without_kernels
@of_any_size
@of_any_kind
def test_halving_gives_the_norms_of_the_products(size, kind, compiled, rng, monkeypatch):
    """Inner products of Gram matrices, and pairs that have to be multiplied out."""
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    groups, k = size
    jacobian = jacobians_of(kind, groups, k, rng)
    squares, exponents = all_norms(ScaledJacobians(jacobian), slice(0, 2))
    for t, source in SOME_PAIRS:
        with np.errstate(divide="ignore"):
            found = np.log2(squares[t, source]) / 2 + exponents[t, source]
        np.testing.assert_allclose(found, exact_log_norms(jacobian[:t], source), rtol=1e-12, atol=1e-11)
    assert np.isnan(squares[np.triu_indices(61, 1)]).all()


def test_all_pairs_in_float32_have_the_digits_of_float32(rng):
    """Against products in float64 of the same Jacobians, long ones of rank one among them."""
    jacobian = (rng.standard_normal((100, 1, 1, 24, 24)) * 0.9 / np.sqrt(24)).astype(np.float32)
    squares, exponents = all_norms(ScaledJacobians(jacobian), slice(0, 1))
    products = np.zeros((0, 24, 24))
    for t, step in enumerate(jacobian[:, 0, 0].astype(np.float64)):
        products = np.concatenate((step @ products, step[None]))
        found = np.ldexp(np.sqrt(squares[t + 1, : t + 1, 0]), exponents[t + 1, : t + 1, 0])
        np.testing.assert_allclose(found, np.linalg.norm(products, axis=(1, 2)), rtol=1e-5)


@pytest.mark.parametrize("power", [-140, 140])
def test_float32_jacobians_at_the_end_of_their_range(power, rng):
    """A nilpotent-like pair of directions that swaps 1 and 2**power: nothing is taken for zero."""
    swap = np.zeros((40, 1, 1, 6, 6), dtype=np.float32)
    swap[..., 0, 1], swap[..., 1, 0] = 1, 2.0 ** (-abs(power) + 20)
    if power > 0:
        swap *= np.float32(2.0**100)
    squares, exponents = all_norms(ScaledJacobians(swap), slice(0, 1))
    found = np.log2(squares[40, 0, 0]) / 2 + exponents[40, 0, 0]
    assert found == pytest.approx(exact_log_norms(swap, 0)[0], rel=1e-12)


def test_halving_in_float32_is_as_good_as_multiplying_out(rng):
    """Long products have rank one, and their inner products are small: none may lose its digits."""
    jacobian = (rng.standard_normal((200, 3, 1, 40, 40)) / np.sqrt(40)).astype(np.float32)
    squares, exponents = all_norms(ScaledJacobians(jacobian), slice(0, 3))
    product = np.eye(40)
    for t in range(200):
        product = jacobian[t, 1, 0].astype(np.float64) @ product
        found = np.sqrt(squares[t + 1, 0, 1]) * 2.0 ** exponents[t + 1, 0, 1]
        assert found == pytest.approx(np.linalg.norm(product), rel=2e-5)
