"""The size of all products of a run at one time, without making any.

The matrix L of all products P(t, k), 1 <= k <= t <= T, is the inverse of A, which has identities on its
diagonal, -J_t to the left of each, and nothing else. So 1 / ||L||_2 is the smallest singular value of A, L v
is one pass over the steps, y_t = J_t y_{t-1} + v_t, and L^T v is one pass back. The largest eigenvalue of
L^T L is found by the method of Lanczos (1950), with all directions kept orthogonal.
"""

from __future__ import annotations

import numpy as np

from gradsim.numerics.scaled import Scaled
from gradsim.types import Array

_ROOM_BYTES = 2**27
"""Directions kept at one time."""

_MOST = 300
"""Directions at most. Many singular values crowd below the largest one where steps contract; it is found to
some 1e-9 with fewer than that all the same."""

_CLOSE = 1e-8
"""Residual, beside the eigenvalue, at which it ends: the error is about the square of that over the distance
from the next eigenvalue."""

_SETTLED = 1e-12
"""Change since the last look at which it ends as well."""

_LOOK = 8
"""Directions from look to look."""

_SPENT = 1e-14
"""Size of what is left of a direction that is a sum of the others."""

_HIGH = 2.0**300


def smallest_singular_value(blocks: Array) -> Scaled:
    """That of A for each batch element, (batch,), from J_2 ... J_T, (steps, batch, g, k, k).

    It is 1 where there is only one state and no step.
    """
    steps, batch, g, k, _ = blocks.shape
    size = (steps + 1) * g * k
    each = max(1, _ROOM_BYTES // (8 * size * min(size, _MOST)))
    wide = blocks.astype(np.float64, copy=False)
    parts = [_smallest(wide[:, i : i + each]) for i in range(0, batch, each)]
    return Scaled(*(np.concatenate([getattr(p, x) for p in parts]) for x in ("mantissa", "exponent")))


def _smallest(blocks: Array) -> Scaled:
    """The same for a few batch elements."""
    steps, batch, g, k, _ = blocks.shape
    size = (steps + 1) * g * k
    count = min(size, _MOST)
    basis = np.empty((batch, count, size))
    alpha, beta = np.zeros((2, batch, count))
    # The same for every element, so that no number depends on how many there are.
    first = np.random.default_rng(0).standard_normal(size)
    basis[:, 0] = first / np.linalg.norm(first)
    unit, values = np.zeros((batch, 1), dtype=np.int32), np.zeros(batch)
    for i in range(count):
        image = _gram(blocks, basis[:, i].reshape(batch, steps + 1, g, k))
        if i == 0:  # its size is near that of the eigenvalue, which it brings into range
            length = np.linalg.norm(image.mantissa, axis=-1, keepdims=True)
            unit = 2 * ((image.exponent + np.frexp(length)[1]) // 2)
        new, known = image.over(unit), basis[:, : i + 1]
        alpha[:, i] = np.vecdot(basis[:, i], new)
        for _ in range(2):  # what once leaves behind by rounding
            new = new - np.matmul(np.matmul(known, new[..., None]).swapaxes(1, 2), known)[:, 0]
        beta[:, i] = np.linalg.norm(new, axis=-1)
        if (last := i + 1 == count) or i % _LOOK == 0:
            before = values
            values, residual = _largest(alpha[:, : i + 1], beta[:, : i + 1])
            settled = (residual <= _CLOSE * values) | (values - before <= _SETTLED * values)
            if last or settled.all():
                break
        alive = beta[:, i] > _SPENT * values
        basis[:, i + 1] = new * np.where(alive, 1 / np.where(alive, beta[:, i], 1), 0)[:, None]
    return Scaled(1 / np.sqrt(values), -unit[:, 0] // 2)


def _largest(alpha: Array, beta: Array) -> tuple[Array, Array]:
    """The largest eigenvalue (batch,) of tridiagonal matrices, and how far it is from one of the whole."""
    count = alpha.shape[1]
    matrix = np.zeros((len(alpha), count, count))
    i = np.arange(count)
    matrix[:, i, i] = alpha
    matrix[:, i[1:], i[:-1]] = matrix[:, i[:-1], i[1:]] = beta[:, :-1]
    values, vectors = np.linalg.eigh(matrix)
    return values[:, -1], beta[:, -1] * np.abs(vectors[:, -1, -1])


def _gram(blocks: Array, v: Array) -> Scaled:
    """L^T L v of vectors (batch, time, g, k), as (batch, time * g * k) with exponents (batch, 1)."""
    there = _through(blocks, v)
    back = _through(blocks[::-1].swapaxes(-1, -2), there.mantissa[:, ::-1])
    flat = back.mantissa[:, ::-1].reshape(len(v), -1)
    return Scaled(flat, (there.exponent + back.exponent).reshape(-1, 1))


def _through(steps: Array, v: Array) -> Scaled:
    """y_t = J_t y_{t-1} + v_t for vectors (batch, time, g, k), with exponents (batch, 1, 1, 1)."""
    found = np.empty_like(v)
    exponents = np.zeros((len(v), v.shape[1], 1, 1), dtype=np.int32)
    y, exponent = v[:, 0], np.zeros((len(v), 1, 1), dtype=np.int32)
    found[:, 0] = y
    for t, step in enumerate(steps, 1):
        y = np.matmul(step, y[..., None])[..., 0] + np.ldexp(v[:, t], -exponent)
        high = np.abs(y).max(axis=(-2, -1), keepdims=True)
        if (high > _HIGH).any():
            shift = np.where(high > _HIGH, np.frexp(high)[1], 0).astype(np.int32)
            y, exponent = np.ldexp(y, -shift), exponent + shift
        found[:, t], exponents[:, t] = y, exponent
    # What lies far below the largest is zero beside it.
    return Scaled(np.ldexp(found, exponents - exponent[:, None]), exponent[:, None])
