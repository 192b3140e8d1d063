"""Compiled arithmetic of products of small diagonal blocks, for their norms.

Imported through `gradsim.machine.accelerator` only, because it needs numba. Matrices are (time, k, k, g) and
exponents (time, g), so that the innermost loops run along memory and LLVM makes vectors of them.
"""

# mypy: disable-error-code="no-untyped-def"

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gradsim.numerics.scaled import KEEP, LOWEST

_KEEP = 4.0 ** KEEP[8]
_WEIGHTS = np.append(4.0 ** -np.arange(512.0), 0.0)
"""4**-n; what is smaller is nothing beside 1."""

_compiled = njit(nogil=True, cache=True, error_model="numpy")


@_compiled
def _settle(matrix, exponent, squares):
    """Squared norms of the blocks (k, k, g); what left the range goes into the exponents."""
    k, groups = matrix.shape[1:]
    squares[:] = 0
    for a in range(k):
        for c in range(k):
            for j in range(groups):
                squares[j] += matrix[a, c, j] * matrix[a, c, j]
    # Counted without a branch, which makes a vector of the loop; it is rare that one is outside.
    outside = 0
    for j in range(groups):
        outside += not (1 / _KEEP < squares[j] < _KEEP)
    if outside:
        for j in range(groups):
            if not 1 / _KEEP < squares[j] < _KEEP:
                squares[j] = _rescale(matrix, exponent, j)


@_compiled
def _rescale(matrix, exponent, j):
    largest = 0.0
    for a in range(matrix.shape[0]):
        for c in range(matrix.shape[0]):
            largest = max(largest, abs(matrix[a, c, j]))
    shift = math.frexp(largest)[1]
    exponent[j] += shift
    square = 0.0
    for a in range(matrix.shape[0]):
        for c in range(matrix.shape[0]):
            matrix[a, c, j] = math.ldexp(matrix[a, c, j], -shift)
            square += matrix[a, c, j] ** 2
    return square


@_compiled
def _multiply(matrix, exponent, by, by_exponent, row):
    """Multiply blocks (k, k, g) from the right by others, in place; `row` is room for (k, g)."""
    k, groups = matrix.shape[1:]
    # Row a of the product needs only row a of the left matrix, so that one row is room enough.
    for a in range(k):
        for c in range(k):
            for j in range(groups):
                row[c, j] = matrix[a, 0, j] * by[0, c, j]
            for d in range(1, k):
                for j in range(groups):
                    row[c, j] += matrix[a, d, j] * by[d, c, j]
        matrix[a] = row
    exponent += by_exponent


@_compiled
def _top(squares, exponent):
    """The largest exponent of a block that is not zero, or LOWEST."""
    top = LOWEST
    for j in range(len(squares)):
        if squares[j] > 0:
            top = max(top, exponent[j])
    return top


@_compiled
def _weigh(exponent, top, weight):
    for j in range(len(weight)):
        weight[j] = _WEIGHTS[max(0, min(512, top - exponent[j]))]


@_compiled
def _norm(matrix, exponent, size, weight):
    """Squared norm of one product over 4**top, and top."""
    _settle(matrix, exponent, size)
    top = _top(size, exponent)
    _weigh(exponent, top, weight)
    total = 0.0
    for j in range(len(size)):
        total += size[j] * weight[j]
    return total, 0 if top == LOWEST else top


@_compiled
def norms_of(after, exponent, before, before_exponent, width, times, sources, squares, exponents):
    """The norms of chosen products A B across the middle of a joint interval (time, k, k, g), multiplied out.

    A is in `after` at a time of the second half, B^T in `before` at a source of the first.
    """
    k, groups = after.shape[2:]
    right, room = np.empty((k, k, groups)), np.empty((k, groups))
    size, weight = np.empty(groups), np.empty(groups)
    for n in range(len(times)):
        t, source = times[n], sources[n]
        # A copy, as the product is still needed as it is.
        product, scale = after[width + t].copy(), exponent[width + t].copy()
        for a in range(k):
            for c in range(k):
                right[a, c] = before[source, c, a]
        _multiply(product, scale, right, before_exponent[source], room)
        squares[t, source], exponents[t, source] = _norm(product, scale, size, weight)


@_compiled
def extend(after, exponent, before, before_exponent, width, first, last):
    """Join intervals of this width: the products (time, k, k, g) to both ends of the joint ones, in place.

    The first interval of all is multiplied by nothing before it, the last by nothing after it.
    """
    times, k, _, groups = after.shape
    row, size = np.empty((k, groups)), np.empty(groups)
    for middle in range(width, times, 2 * width):
        stop = min(middle + width, times)
        if middle > width or not first:
            for t in range(middle, stop):
                _multiply(after[t], exponent[t], after[middle - 1], exponent[middle - 1], row)
                _settle(after[t], exponent[t], size)
        if stop < times or not last:
            for t in range(middle - width, middle):
                _multiply(before[t], before_exponent[t], before[middle], before_exponent[middle], row)
                _settle(before[t], before_exponent[t], size)


@_compiled
def grams(after, exponent, before, before_exponent, width, gram, trace, top):
    """X^T X of each product across the middle of joint intervals, over 4**top: upper triangles (time, ., g).

    X is in `after` in the second half of a joint interval, in `before` in the first. `trace` (time, g).
    Elements off the diagonal are times sqrt(2), so that inner products count them twice.
    """
    times, k, _, groups = after.shape
    weight = np.empty(groups)
    for t in range(times):
        second = t // width % 2
        matrix = after[t] if second else before[t]
        scale = exponent[t] if second else before_exponent[t]
        _settle(matrix, scale, trace[t])
        top[t] = _top(trace[t], scale)
        # One exponent for all groups, as they are summed: what is tiny beside the largest becomes zero.
        _weigh(scale, top[t], weight)
        for j in range(groups):
            trace[t, j] *= weight[j]
        at = 0
        for c in range(k):
            for d in range(c, k):
                twice = 1.0 if c == d else math.sqrt(2.0)
                gram[t, at] = 0
                for a in range(k):
                    for j in range(groups):
                        gram[t, at, j] += matrix[a, c, j] * matrix[a, d, j] * weight[j] * twice
                at += 1


@_compiled
def multiply_out(steps, step_exponent, after, exponent, before, before_exponent, width, squares, exponents):
    """All products within intervals of `width` steps, from the last source of each back.

    Leaves P(t, start) in `after`, the transposed P(end, k) in `before`, and the norms in the last two, (time,
    source).
    """
    times, k, _, groups = steps.shape
    row, size, weight = np.empty((k, groups)), np.empty(groups), np.empty(groups)
    for start in range(0, times, width):
        stop = min(start + width, times)
        # Back from the last source: all products that start there are multiplied from the right.
        for source in range(stop - 1, start - 1, -1):
            after[source], exponent[source] = steps[source], step_exponent[source]
            for t in range(source, stop):
                if t > source:
                    _multiply(after[t], exponent[t], steps[source], step_exponent[source], row)
                found = _norm(after[t], exponent[t], size, weight)
                squares[t + 1, source], exponents[t + 1, source] = found
            for a in range(k):
                for c in range(k):
                    before[source, c, a] = after[stop - 1, a, c]
            before_exponent[source] = exponent[stop - 1]
