"""Norms from cumulative products, against logarithms in long double."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from gradsim.engine.norms import diagonal_kernels
from gradsim.engine.norms.diagonal import Diagonal

STEPS, BATCH, UNITS = 150, 3, 12
LOG10_2 = np.log10(np.longdouble(2))


def norms_of(blocks):
    """Norms of all pairs and their log10, (time, source, batch)."""
    times = len(blocks) + 1
    norms, logs = np.full((2, times, times, blocks.shape[1]), 7.0)
    diagonal = Diagonal(diagonal_kernels, blocks, norms, logs)
    shares = []
    for job in diagonal.begun():
        job()
    assert diagonal.fits.all()
    for job in diagonal.filled(shares.append):
        job()
    assert sum(shares) == pytest.approx(blocks.shape[1])
    return norms, logs


def exact_logs(blocks):
    """log10 of the norms: sums of logarithms of squares, where no zero lies between."""
    steps, batch, units, k, _ = blocks.shape
    squares = (blocks[..., 0].astype(np.longdouble) ** 2).sum(axis=-1)
    nothing = squares == 0
    dead = np.concatenate((np.zeros((1, batch, units), int), np.cumsum(nothing, axis=0)))
    sums = np.cumsum(np.where(nothing, 0, np.log2(np.where(nothing, 1, squares))), axis=0)
    sums = np.concatenate((np.zeros((1, batch, units), np.longdouble), sums))
    found = np.full((steps + 1, steps + 1, batch), np.nan, np.longdouble)
    for t in range(steps + 1):
        each = np.where(dead[t] == dead[: t + 1], sums[t] - sums[: t + 1], -np.inf)
        top = np.maximum(each.max(axis=-1), -1e9)
        with np.errstate(divide="ignore"):
            found[t, : t + 1] = top + np.log2(np.exp2(each - top[..., None]).sum(axis=-1))
    return (found + np.log2(np.longdouble(k))) / 2 * LOG10_2


def sizes(kind, rng, units=UNITS):
    shape = STEPS, BATCH, units
    signs = rng.standard_normal(shape)
    even = np.arange(units) % 2 == 0
    match kind:
        case "mild":
            return rng.uniform(0.3, 0.9, shape)
        case "growing":
            return rng.uniform(1, 30, shape) ** 4
        case "vanishing":
            return rng.uniform(1e-9, 1e-5, shape)
        case "constant":
            return np.broadcast_to(rng.uniform(0.9, 1, shape[2]), shape).copy()
        case "few zeros":
            return signs * (rng.uniform(size=shape) > 0.003)
        case "half zeros":
            return signs * (rng.uniform(size=shape) > 0.5)
        case "all zero":
            return np.zeros(shape)
        case "opposite halves":
            return np.where((np.arange(STEPS)[:, None, None] < STEPS // 2) ^ even, 1e-9, 1.1) * np.exp(signs)
        case "far apart":
            return 10.0 ** rng.uniform(-30, 30, shape)
        case "one dead for a while":
            return np.where(np.arange(STEPS)[:, None, None] == 70, even * 1.0, 1.0) * np.exp(signs)


KINDS = [
    "mild",
    "growing",
    "vanishing",
    "constant",
    "few zeros",
    "half zeros",
    "all zero",
    "opposite halves",
    "far apart",
    "one dead for a while",
]


def blocks_of(d, rotating, rng, dtype):
    if not rotating:
        return d[..., None, None].astype(dtype)
    angle = rng.uniform(0, 2 * np.pi, d.shape)
    a, b = d * np.cos(angle), d * np.sin(angle)
    return np.stack((np.stack((a, -b), -1), np.stack((b, a), -1)), -2).astype(dtype)


def agree(blocks):
    exact, (norms, logs) = exact_logs(blocks), norms_of(blocks)
    np.testing.assert_array_equal(np.isneginf(logs), np.isneginf(exact))
    np.testing.assert_array_equal(np.isnan(logs), np.isnan(exact))
    np.testing.assert_array_equal(np.isnan(norms), np.isnan(exact))
    here = np.isfinite(exact)
    error = np.abs(logs[here] - exact[here]) / np.maximum(1, np.abs(exact[here]))
    assert error.max(initial=0) < 5e-15  # long sums of large logarithms have no more digits
    held = here & (np.abs(exact) < 300)
    error = np.abs(norms[held] / 10 ** exact[held] - 1) / np.maximum(1, np.abs(exact[held]))
    assert error.max(initial=0) < 1e-14
    assert (norms[exact < -324] == 0).all()
    assert np.isinf(norms[exact > 309]).all()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rotating", [False, True], ids=["numbers", "rotations"])
@pytest.mark.parametrize("kind", KINDS)
def test_norms_have_all_digits_in_any_range(kind, rotating, dtype, rng):
    agree(blocks_of(sizes(kind, rng), rotating, rng, dtype))


@pytest.mark.parametrize("rotating", [False, True], ids=["numbers", "rotations"])
@pytest.mark.parametrize("power", [-307, -200, 150, 300])
def test_single_steps_at_the_ends_of_the_range(power, rotating, rng):
    """Their squares leave the range of float64, and meet steps of ordinary size."""
    d = rng.uniform(0.5, 2, (STEPS, BATCH, UNITS))
    agree(blocks_of(d * 10.0 ** (power * (rng.uniform(size=d.shape) < 0.3)), rotating, rng, np.float64))


@pytest.mark.parametrize("steps", [1, 2, 63, 64, 65])
@pytest.mark.parametrize("batch", [1, 8, 11])
def test_short_ones_and_batches_of_any_size(steps, batch, rng):
    agree(rng.standard_normal((steps, batch, 1, 1, 1)))


def test_errors_do_not_grow_with_time(rng):
    """Constant factors, whose rounding would add up."""
    blocks = np.broadcast_to(rng.uniform(0.99, 1.01, (1, 1, 5, 1, 1)), (2000, 1, 5, 1, 1))
    logs = norms_of(blocks)[1][:, 0, 0]
    lags = np.arange(2001).astype(np.longdouble)[:, None]
    exact = np.log10((blocks[0, 0, :, 0, 0].astype(np.longdouble) ** (2 * lags)).sum(axis=1)) / 2
    assert (np.abs(logs - exact) / np.maximum(1, np.abs(exact))).max() < 5e-16


def test_an_element_does_not_depend_on_its_neighbours(rng):
    """To the last bit."""
    blocks = blocks_of(sizes("few zeros", rng), False, rng, "float32")
    whole = norms_of(blocks)
    for b in range(BATCH):
        alone = norms_of(blocks[:, b : b + 1])
        for x, y in zip(whole, alone, strict=True):
            np.testing.assert_array_equal(x[..., b], y[..., 0])
