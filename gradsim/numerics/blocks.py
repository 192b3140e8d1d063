"""Diagonal blocks, the layout of step Jacobians and their products."""

from __future__ import annotations

import numpy as np

from gradsim.types import Array


def dense_blocks(blocks: Array) -> Array:
    """Step Jacobians or products (..., g, k, k) as full matrices (..., m, m)."""
    *lead, g, k, _ = blocks.shape
    if g == 1:
        return blocks[..., 0, :, :]
    full = np.zeros((*lead, k, g, k, g), dtype=blocks.dtype)
    j = np.arange(g)
    full[..., :, j, :, j] = np.moveaxis(blocks, -3, 0)
    return full.reshape(*lead, k * g, k * g)


def through_blocks(adjoint: Array, blocks: Array) -> Array:
    """Adjoints (batch, m) times step Jacobians (batch, g, k, k)."""
    batch, g, k, _ = blocks.shape
    # Group j holds the components j, j + g, j + 2g, ...: as (k, g) they are the columns.
    if k <= 2:  # a product of so small matrices is slower than the sums
        rows = adjoint.reshape(batch, k, 1, g)
        return np.asarray((rows * blocks.transpose(0, 2, 3, 1)).sum(axis=1).reshape(batch, -1))
    rows = adjoint.reshape(batch, k, g).swapaxes(1, 2)[..., None, :]
    return np.asarray(np.matmul(rows, blocks)[..., 0, :].swapaxes(1, 2).reshape(batch, -1))
