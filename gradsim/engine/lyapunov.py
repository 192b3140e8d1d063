"""Finite-time Lyapunov exponents by repeated QR (Benettin, Galgani, Giorgilli & Strelcyn 1980)."""

from __future__ import annotations

import numpy as np

from gradsim.types import Array


def exponents(blocks: Array) -> Array:
    """Exponents of the product of all step Jacobians.

    Parameters
    ----------
    blocks
        Shape (step, batch, g, k, k).

    Returns
    -------
    Array
        Shape (batch, g * k), natural logarithm per step, decreasing: (1/T) sum over t of
        log |R_t[i, i]| with Q_t R_t = J_t Q_{t-1} and Q_0 = I. -inf where a direction is annihilated.
    """
    steps, batch = blocks.shape[:2]
    total = np.zeros(blocks.shape[1:-1])
    with np.errstate(divide="ignore"):
        if blocks.shape[-1] == 1:
            total += np.log(np.abs(blocks[..., 0])).sum(axis=0)
        else:
            q = np.broadcast_to(np.eye(blocks.shape[-1]), blocks.shape[1:])
            for jacobian in blocks:
                q, r = np.linalg.qr(np.matmul(jacobian, q, dtype=np.float64))
                total += np.log(np.abs(np.diagonal(r, axis1=-2, axis2=-1)))
    return np.sort((total / steps).reshape(batch, -1))[:, ::-1]
