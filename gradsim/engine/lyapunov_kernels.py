"""The compiled kernel of Lyapunov exponents. It needs numba: import it through `gradsim.accelerator`."""

from __future__ import annotations

import numpy as np
from numba import njit

from gradsim.types import Array


def factors(matrix: Array) -> tuple[Array, Array]:
    """As `gradsim.engine.lyapunov.factors`, by modified Gram-Schmidt, whose R is as accurate."""
    basis, size = np.array(matrix, order="C"), np.empty(matrix.shape[:-1])
    k = matrix.shape[-1]
    _factors(basis.reshape(-1, k, k), size.reshape(-1, k))
    return basis, size


@njit("void(float64[:,:,::1], float64[:,::1])", nogil=True, cache=True, error_model="numpy")
def _factors(bases, sizes):  # type: ignore[no-untyped-def]
    """Turn matrices (n, k, k) into bases; a column that is exactly zero stays zero."""
    k = sizes.shape[1]
    row = np.empty(k)
    for b in range(len(bases)):
        q = bases[b]
        for i in range(k):
            square = 0.0
            for t in range(k):
                square += q[t, i] * q[t, i]
            sizes[b, i] = np.sqrt(square)
            if sizes[b, i] > 0:
                row[i + 1 :] = 0
                for t in range(k):
                    q[t, i] /= sizes[b, i]
                    for j in range(i + 1, k):
                        row[j] += q[t, i] * q[t, j]
                for t in range(k):
                    for j in range(i + 1, k):
                        q[t, j] -= q[t, i] * row[j]
