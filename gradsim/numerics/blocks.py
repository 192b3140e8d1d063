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
