"""Norms of all pairs in jobs: those that suit the blocks, in any order, for any blocks side by side."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.engine import layout
from gradsim.engine.norms.pairs import Room, norm_jobs

compiled_or_not = pytest.mark.parametrize("compiled", ["0", "1"], ids=["numpy", "compiled"])


def made(blocks, each=2, reverse=False):
    times, batch = len(blocks) + 1, blocks.shape[1]
    norms, logs = np.full((2, times, times, batch), 7.0)
    shares = []
    for jobs in norm_jobs(Room(blocks, norms, logs), each, done=shares.append):
        for job in reversed(jobs) if reverse else jobs:
            job()
    assert sum(shares) == pytest.approx(batch)
    return norms, logs


def multiplied(blocks):
    """Norms of the products."""
    steps, batch = blocks.shape[:2]
    found = np.full((steps + 1, steps + 1, batch), np.nan)
    for source in range(steps + 1):
        product = np.broadcast_to(np.eye(blocks.shape[-1]), blocks.shape[1:])
        for t in range(source, steps + 1):
            if t > source:
                product = blocks[t - 1] @ product
            found[t, source] = np.sqrt((product**2).sum(axis=(1, 2, 3)))
    return found


@compiled_or_not
@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("rotating", [0, 2, 5], ids=lambda n: f"{n} rotate")
def test_all_blocks_side_by_side(size, rotating, compiled, monkeypatch, rng):
    """Blocks of some batch elements rotate and scale, those of others do not."""
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    blocks = rng.standard_normal((20, 5, 3, size, size)) / np.sqrt(size)
    if size == 2:
        some = blocks[:, :rotating]
        some[..., 1, 1], some[..., 0, 1] = some[..., 0, 0], -some[..., 1, 0]
    expected = multiplied(blocks)
    for reverse in (False, True):
        norms, logs = made(blocks, reverse=reverse)
        np.testing.assert_allclose(norms, expected, rtol=1e-12)
        np.testing.assert_allclose(logs, np.log10(expected), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("size", [1, 2, 6])
def test_elements_that_are_kept_at_one_time_make_no_difference(size, monkeypatch, rng):
    blocks = rng.standard_normal((20, 5, 3, size, size))
    whole = made(blocks)
    monkeypatch.setattr(layout, "_CUMULATED_BYTES", 1)
    monkeypatch.setattr(layout, "_SQUARES_BYTES", 1)
    for x, y in zip(whole, made(blocks), strict=True):
        np.testing.assert_array_equal(x, y)
