"""What rules share that keep a sum of products as one product, by random signs.

With independent signs v_i, the product of the sum of v_i a_i and the sum of v_i b_i has the mean sum of
a_i b_i. Its variance is least where the factors a_i and b_i have the same norm.
"""

from __future__ import annotations

import numpy as np

from gradsim.numerics.scaled import Scaled, norm


def signs(rng, *shape):
    """Independent ones and minus ones."""
    return 2 * rng.integers(2, size=shape, dtype=np.int8) - 1


def balanced(one, other):
    """Two factors (batch, ...) with the same product and equal norms; zeros where one of the two is zero."""
    root, root_of_other = (np.sqrt(_norms(x)) for x in (one, other))  # whose ratio is in range
    both = (root > 0) & (root_of_other > 0)
    up = np.where(both, root_of_other, 0) / np.where(both, root, 1)
    down = np.where(both, 1, 0) / np.where(both, up, 1)
    return _times(up, one), _times(down, other)


def _norms(x):
    """Of arrays (batch, ...), also where squares leave the range."""
    rows = x.reshape(len(x), -1)
    return norm(Scaled(rows, np.zeros((len(x), 1), dtype=np.int32)), (1,)).value


def _times(factor, x):
    return factor.astype(x.dtype).reshape(-1, *(1,) * (x.ndim - 1)) * x
