"""What rules share that keep a sum of products as one product, by random signs.

With independent signs v_i, the product of the sum of v_i a_i and the sum of v_i b_i has the mean sum of
a_i b_i. Its variance is least where the factors a_i and b_i have the same norm.
"""

from __future__ import annotations

import numpy as np


def signs(rng, *shape):
    """Independent ones and minus ones."""
    return 2 * rng.integers(2, size=shape, dtype=np.int8) - 1


def balanced(one, other):
    """Two factors (batch, ...) with the same product and equal norms; zeros where one of the two is zero."""
    size, size_of_other = (np.sqrt((x * x).sum(axis=tuple(range(1, x.ndim)))) for x in (one, other))
    both = (size > 0) & (size_of_other > 0)
    up = np.sqrt(np.where(both, size_of_other, 0) / np.where(both, size, 1))
    down = np.where(both, 1, 0) / np.where(both, up, 1)
    return _times(up, one), _times(down, other)


def _times(factor, x):
    return factor.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) * x
