"""Compiled kernels of Lyapunov exponents. They need numba: see `gradsim.machine.accelerator`."""

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


# Sums may be taken in the order that makes vectors of them; it depends on their length alone.
@njit("float64(float64[::1], float64[::1])", nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _dot(a, b):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(a)):
        total += a[i] * b[i]
    return total


@njit(
    "void(float64[:,::1], float64[:,::1], float64[:,::1])",
    nogil=True,
    cache=True,
    fastmath={"contract"},
)
def _apply(step, basis, moved):  # type: ignore[no-untyped-def]
    """Rows of `moved`: those of `basis` times the transpose of `step`; four at a time, to load less."""
    k = len(step)
    moved[:] = 0
    for i in range(0, k - k % 4, 4):
        for c in range(k):
            b0, b1, b2, b3 = basis[i, c], basis[i + 1, c], basis[i + 2, c], basis[i + 3, c]
            for a in range(k):
                moved[i, a] += b0 * step[c, a]
                moved[i + 1, a] += b1 * step[c, a]
                moved[i + 2, a] += b2 * step[c, a]
                moved[i + 3, a] += b3 * step[c, a]
    for i in range(k - k % 4, k):
        for c in range(k):
            for a in range(k):
                moved[i, a] += basis[i, c] * step[c, a]


@njit(
    "int64(float64[:,:,::1], float64[:,::1], float64[::1], float64)",
    nogil=True,
    cache=True,
    error_model="numpy",
    fastmath={"contract"},
)
def sweep(steps, basis, grown, least):  # type: ignore[no-untyped-def]
    """Go on by transposed steps (n, k, k), with QR by modified Gram-Schmidt at each, in place.

    `basis` has the directions as rows. The number of steps done: a step in which a direction shrinks to
    `least` times the size of the step is not.
    """
    k = len(grown)
    moved, sizes = np.empty_like(basis), np.empty(k)
    for n in range(len(steps)):
        _apply(steps[n], basis, moved)
        flat = steps[n].reshape(-1)
        floor = least * np.sqrt(_dot(flat, flat))
        for i in range(k):
            row = moved[i]
            sizes[i] = np.sqrt(_dot(row, row))
            if not sizes[i] > floor:
                return n
            for a in range(k):
                row[a] /= sizes[i]
            for j in range(i + 1, k):
                other = moved[j]
                r = _dot(row, other)
                for a in range(k):
                    other[a] -= r * row[a]
        grown += np.log(sizes)
        basis[:] = moved
    return len(steps)
