"""Compiled kernels of Lyapunov exponents. They need numba: see `gradsim.machine.accelerator`."""

from __future__ import annotations

from functools import partial

import numpy as np
from numba import njit, types

from gradsim.types import Array

_float, _int, _array = types.float64, types.int64, partial(types.Array, types.float64)
_given = partial(_array, readonly=True)  # what is written to is taken, too


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
@njit((_given(1, "C"),), nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _norm(a):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(len(a)):
        total += a[i] * a[i]
    return np.sqrt(total)


@njit(
    (_given(2, "A"), _array(2, "C"), _array(2, "C"), _int),
    nogil=True,
    cache=True,
    fastmath={"contract"},
)
def _product(left, right, out, kind):  # type: ignore[no-untyped-def]
    """All of a product (0), its entries from the diagonal on (1), or that with an upper triangle (2)."""
    k = len(right)
    whole = k - k % 4
    out[:] = 0
    for i in range(0, whole, 4):  # blocks of 4 x 4, to load less
        for c in range(0, whole, 4):
            p0, p1, p2, p3 = left[i, c], left[i, c + 1], left[i, c + 2], left[i, c + 3]
            q0, q1, q2, q3 = left[i + 1, c], left[i + 1, c + 1], left[i + 1, c + 2], left[i + 1, c + 3]
            r0, r1, r2, r3 = left[i + 2, c], left[i + 2, c + 1], left[i + 2, c + 2], left[i + 2, c + 3]
            s0, s1, s2, s3 = left[i + 3, c], left[i + 3, c + 1], left[i + 3, c + 2], left[i + 3, c + 3]
            for a in range(np.uintp(i * (kind == 1) + c * (kind == 2)), np.uintp(k)):
                t0, t1, t2, t3 = right[c, a], right[c + 1, a], right[c + 2, a], right[c + 3, a]
                out[i, a] += p0 * t0 + p1 * t1 + p2 * t2 + p3 * t3
                out[i + 1, a] += q0 * t0 + q1 * t1 + q2 * t2 + q3 * t3
                out[i + 2, a] += r0 * t0 + r1 * t1 + r2 * t2 + r3 * t3
                out[i + 3, a] += s0 * t0 + s1 * t1 + s2 * t2 + s3 * t3
    for i in range(k):
        for c in range(whole if i < whole else 0, k):
            for a in range(k):
                out[i, a] += left[i, c] * right[c, a]


@njit("void(float64[:,::1])", nogil=True, cache=True, error_model="numpy", fastmath={"contract"})
def inverse_factor(m):  # type: ignore[no-untyped-def]
    """Turn a symmetric matrix into the inverse of its lower Cholesky factor; NaN if there is none.

    The upper half is read. Elimination by rows leaves the inverse below it; four pivots at a time.
    """
    k = len(m)
    for i in range(k):
        m[i, :i] = 0
    for first in range(0, k, 4):
        end = min(first + 4, k)
        for i in range(first, end):
            scale = 1 / np.sqrt(m[i, i])
            m[i, i] = 1
            for t in range(k):
                m[i, t] *= scale
            for j in range(i + 1, end):
                share = m[i, j]
                for t in range(i + 1):
                    m[j, t] -= share * m[i, t]
                for t in range(np.uintp(j), np.uintp(k)):
                    m[j, t] -= share * m[i, t]
        for i in range(first, end):
            m[i, i + 1 : end] = 0
        if end - first == 4:
            p, q, r, s = m[first], m[first + 1], m[first + 2], m[first + 3]
            for j in range(end, k):
                row, a, b, c, d = m[j], p[j], q[j], r[j], s[j]
                for t in range(end):
                    row[t] -= (a * p[t] + b * q[t]) + (c * r[t] + d * s[t])
                for t in range(np.uintp(j), np.uintp(k)):
                    row[t] -= (a * p[t] + b * q[t]) + (c * r[t] + d * s[t])
    for i in range(k):
        m[i, i + 1 :] = 0


@njit(
    (_given(3, "C"), _array(2, "C"), _array(1, "C"), _int, _int, _float, _float),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def telescope(steps, basis, grown, length, longest, rounding, lost):  # type: ignore[no-untyped-def]
    """Go on by steps (n, k, k), in place, in intervals of about `length`; how many are done, the next length.

    See `gradsim.engine.lyapunov`. A step that is nearly singular is not done.
    """
    k = len(basis)
    frames, errors = np.empty((longest + 1, k, k)), np.zeros(longest + 1)
    inverse, mixed = np.empty((k, k)), np.zeros((k, k))
    frames[0] = basis
    done = 0
    while done < len(steps):
        taken = min(length, longest, len(steps) - done)
        before = _norm(frames[0].reshape(-1))
        for i in range(taken):
            step = steps[done + i]
            usual = _norm(step.reshape(-1)) / np.sqrt(k)
            _product(step, frames[i], frames[i + 1], 0)
            norm = _norm(frames[i + 1].reshape(-1))
            # Earlier errors grow as the step makes any direction grow, or the frame if that is more.
            errors[i + 1] = max(usual, norm / before) * errors[i] + rounding * (usual * before + norm)
            before = norm
        held = taken
        while held > 0:
            frame = frames[held]
            _product(frame.T, frame, inverse, 1)
            inverse_factor(inverse)
            wrong, least = 0.0, np.inf
            for i in range(k):
                row = inverse[i]
                size = errors[held] * _norm(row)
                if not size <= lost:
                    wrong = np.inf
                    break
                wrong, least = max(wrong, size), min(least, row[i])
            if wrong <= lost:
                break
            held = held * 3 // 4
            length = max(1, held)
        if held == 0:
            break
        for i in range(k):
            grown[i] -= np.log(inverse[i, i])
            for j in range(i + 1):
                mixed[j, i] = inverse[i, j]
        _product(frames[held], mixed, frames[0], 2)
        done += held
        if held == taken == length:
            # Half of what seems possible: to fail costs more than to have been a bit too careful.
            spread = np.log(max(wrong / (errors[held] * least), 1.001))
            length = min(int(length + 0.5 * length * np.log(lost / wrong) / spread), longest)
    basis[:] = frames[0]
    return done, length
