"""What clipping by norms has in common."""

from __future__ import annotations

import numpy as np

PHASES = {
    "gradient": ("gradient",),
    "parameter": ("gradient",),
    "contribution": ("contributions",),
    "adjoint": ("adjoint",),
}
"""The phase in which clipping acts, by where it does."""


def shortened(x, size, limit):
    """`x` times limit / size where `size` exceeds `limit`, and as it is elsewhere."""
    return np.where(size > limit, x * (limit / np.maximum(size, limit)), x).astype(x.dtype, copy=False)


def sizes(x, axes):
    """Euclidean norms over some axes, which stay with length 1; also where squares leave the range."""
    top = np.max(np.abs(x), axis=axes, keepdims=True, initial=0)
    top = np.where(top > 0, top, 1)
    return top * np.sqrt(np.sum((x / top) ** 2, axis=axes, keepdims=True))
