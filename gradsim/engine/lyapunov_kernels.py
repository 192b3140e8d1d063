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


@njit(
    "void(float64[:,:,:,::1], float64[:,::1], float64, float64[:,::1])",
    nogil=True,
    cache=True,
    error_model="numpy",
)
def errors(frames, usual, rounding, found):  # type: ignore[no-untyped-def]
    """About how large errors of frames (1 + n, count, k, k) are that usually grow by `usual` (n, count)."""
    for b in range(frames.shape[1]):
        error = 0.0
        first = frames[0, b].reshape(-1)
        before = np.sqrt(_dot(first, first))
        for n in range(len(usual)):
            frame = frames[n + 1, b].reshape(-1)
            norm = np.sqrt(_dot(frame, frame))
            error = max(usual[n, b], norm / before) * error + rounding * (usual[n, b] * before + norm)
            found[n, b] = error
            before = norm


@njit("void(float64[:,:,::1])", nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def inverse_factor(matrices):  # type: ignore[no-untyped-def]
    """Turn symmetric matrices (n, k, k) into the inverses of their lower Cholesky factors, or NaN.

    Elimination by rows leaves the inverse where it clears the matrix; four pivots at a time, to load less.
    """
    for n in range(len(matrices)):
        m = matrices[n]
        k = len(m)
        for first in range(0, k, 4):
            end = min(first + 4, k)
            for i in range(first, end):
                scale = 1 / np.sqrt(m[i, i])
                m[i] *= scale
                m[i, i] = scale
                for j in range(i + 1, end):
                    share = m[j, i] * scale
                    m[j, i] = 0
                    for t in range(k):
                        m[j, t] -= share * m[i, t]
            if end == k:
                break
            p, q, r, s = m[first], m[first + 1], m[first + 2], m[first + 3]
            p1, p2, p3, q2, q3, r3 = p[end - 3], p[end - 2], p[end - 1], q[end - 2], q[end - 1], r[end - 1]
            p[end - 3 : end], q[end - 2 : end], r[end - 1] = 0, 0, 0
            for j in range(end, k):
                row = m[j]
                a = row[first] * p[first]
                b = (row[first + 1] - a * p1) * q[first + 1]
                c = (row[first + 2] - a * p2 - b * q2) * r[first + 2]
                d = (row[first + 3] - a * p3 - b * q3 - c * r3) * s[first + 3]
                row[first:end] = 0
                for t in range(k):
                    row[t] -= (a * p[t] + b * q[t]) + (c * r[t] + d * s[t])
        for i in range(k):
            m[i, i + 1 :] = 0


@njit("UniTuple(float64, 2)(float64[:,:,::1], float64[::1])", nogil=True, cache=True, error_model="numpy")
def limits(inverses, errors):  # type: ignore[no-untyped-def]
    """How wrong a logarithm from inverse factors (n, k, k) may be; the ratio of fastest to slowest growth."""
    lost, spread = 0.0, 1.0
    for n in range(len(inverses)):
        widest, least = 0.0, np.inf
        for i in range(inverses.shape[1]):
            row = inverses[n, i]
            square = _dot(row, row)
            if not square * errors[n] < np.inf:
                return np.inf, np.inf
            widest, least = max(widest, square), min(least, row[i])
        widest = np.sqrt(widest)
        lost, spread = max(lost, widest * errors[n]), max(spread, widest / least)
    return lost, spread
