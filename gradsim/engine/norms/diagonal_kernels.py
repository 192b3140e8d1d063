"""Compiled parts of the norms of products of numbers, or of blocks that rotate and scale: see `diagonal`.

Imported through `gradsim.machine.accelerator` only, because it needs numba.
"""

# mypy: disable-error-code="no-untyped-def, operator"

from __future__ import annotations

import math

import numpy as np
from numba import njit

from gradsim.engine.norms.finish_kernels import laid_out, root_and_log10
from gradsim.numerics.scaled import LEAST_SQUARE

_ZERO = 2**40
"""What a zero takes off an exponent: more than all other numbers together, and few enough for int64."""

_DEAD = -(2**39)
"""An exponent below this is that of nothing."""

_MOST = 2**28
"""Exponents of pairs are within this, either way; so are those that are not of nothing, by far."""

_FRACTION = (1 << 52) - 1
_SPLIT = 2.0**27 + 1

_compiled = njit(nogil=True, cache=True, error_model="numpy")
_contracted = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})


@_compiled
def _product(a, b):
    """A product and what its rounding has lost (Dekker 1971)."""
    p = a * b
    x, y = _SPLIT * a, _SPLIT * b
    a1, b1 = x - (x - a), y - (y - b)
    a2, b2 = a - a1, b - b1
    return p, ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2


@_compiled
def _square(block, j, k):
    """The square of a number, or a^2 + b^2 of a block of two, and what its rounding has lost."""
    x = np.float64(block[j, 0, 0])
    p, low = _product(x, x)
    if k == 1:
        return p, low
    x = np.float64(block[j, 1, 0])
    q, lost = _product(x, x)
    total = p + q
    # What p + q has lost, whichever is larger (Knuth).
    part = total - p
    return total, low + lost + ((p - (total - part)) + (q - part))


@_compiled
def _extreme_squares(block, square, low, power):
    """Squares over 2**power where those of float64 would leave the range; adds to the powers."""
    scaled = np.empty((1, 2, 1))
    k = block.shape[1]
    for j in range(len(square)):
        largest = 0.0
        for a in range(k):
            largest = max(largest, abs(np.float64(block[j, a, 0])))
        shift = math.frexp(largest)[1]
        for a in range(k):
            scaled[0, a, 0] = math.ldexp(np.float64(block[j, a, 0]), -shift)
        square[j], low[j] = _square(scaled, 0, k)
        power[j] += 2 * shift


@_compiled
def cumulate(blocks, size, inverse, exponent):
    """Of each unit the products of squares up to each time, size * 2**exponent, and 1 / size: (time, unit).

    `blocks` (step, unit, k, k). False where blocks of two are no rotations, times a number each. Products are
    carried with twice the digits, so that what is stored is rounded once however many steps there are.
    """
    steps, units, k, _ = blocks.shape
    now, rest, power = np.ones(units), np.zeros(units), np.zeros(units, np.int64)
    square, low = np.empty(units), np.empty(units)
    size[0], inverse[0], exponent[0] = 1, 1, 0
    for t in range(steps):
        block = blocks[t]
        if k == 2:
            odd = 0
            for j in range(units):
                odd += (block[j, 0, 0] != block[j, 1, 1]) | (block[j, 1, 0] != -block[j, 0, 1])
            if odd:
                return False
        extreme = 0
        for j in range(units):
            square[j], low[j] = _square(block, j, k)
            there = block[j, 0, 0] != 0
            if k == 2:
                there |= block[j, 1, 0] != 0
            extreme += there & ~((square[j] > LEAST_SQUARE) & (square[j] < 1 / LEAST_SQUARE))
        if extreme:
            _extreme_squares(block, square, low, power)
        m, v, e = size[t + 1], inverse[t + 1], exponent[t + 1]
        for j in range(units):
            nothing = square[j] == 0
            s = 1.0 if nothing else square[j]
            p, lost = _product(now[j], s)
            lost += now[j] * low[j] + rest[j] * s
            x = p + lost
            bits = np.float64(x).view(np.int64)
            shift = (bits >> 52) - 1023
            back = np.int64((1023 - shift) << 52).view(np.float64)
            power[j] += shift - (_ZERO if nothing else 0)
            m[j] = x * back
            rest[j] = (lost - (x - p)) * back
            now[j] = m[j]
            v[j] = 1.0 / m[j]
            e[j] = power[j]
    return True


@_compiled
def mild(exponent, start, stop):
    """Whether no unit moves by more than 2**900 between two times."""
    units = exponent.shape[1]
    low, high = exponent[start].copy(), exponent[start].copy()
    for t in range(start + 1, stop):
        for j in range(units):
            low[j] = min(low[j], exponent[t, j])
            high[j] = max(high[j], exponent[t, j])
    return (high - low).max() < 900


@_contracted
def _quotients(size, exponent, inverse, under, out):
    """Quotients of products, over 2**top, and top, which is below `_DEAD` where all are zero."""
    top = exponent[0] - under[0]
    for j in range(1, len(out)):
        top = max(top, exponent[j] - under[j])
    if top < _DEAD:
        out[:] = 0
        return top
    for j in range(len(out)):
        shift = max(exponent[j] - under[j] - top + 1023, 0)
        out[j] = size[j] * inverse[j] * np.int64(shift << 52).view(np.float64)
    return top


@_compiled
def factors(size, inverse, exponent, time, source, middle, left, right, powers):
    """Of times and sources from these on the products after `middle` and before it: left, right (., unit).

    Both over powers of two, which are added up in `powers` (time, source).
    """
    tops = np.empty(len(right), np.int64)
    for n in range(len(right)):
        k = source + n
        tops[n] = _quotients(size[middle], exponent[middle], inverse[k], exponent[k], right[n])
    for n in range(len(left)):
        t = time + n
        top = _quotients(size[t], exponent[t], inverse[middle], exponent[middle], left[n])
        for k in range(len(right)):
            powers[n, k] = max(min(top + tops[k], _MOST), -_MOST)


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"nnan", "nsz", "reassoc"})
def _least(x):
    least = x[0]
    for n in range(len(x)):
        least = min(least, x[n])
    return least


@_compiled
def _mend(squares, powers, size, inverse, exponent, t):
    """Sums of one time that may have lost digits, because they are small, are made again."""
    room = np.empty(size.shape[1])
    for k in range(len(squares)):
        if squares[k] < LEAST_SQUARE and powers[k] > -_MOST:
            top = _quotients(size[t], exponent[t], inverse[k], exponent[k], room)
            squares[k], powers[k] = (room.sum(), top) if top > _DEAD else (0.0, 0)


@_compiled
def finish(squares, powers, start, double, size, inverse, exponent, norms, logs):
    """From sums (time, batch, source) over powers of two, of times from `start` on, to norms and log10.

    `double`: 1 where every square counts twice. Both (time, source, batch).
    """
    height, batch, width = squares.shape
    roots, log_rows = np.empty((batch, width)), np.empty((batch, width))
    for i in range(height):
        t = start + i
        for b in range(batch):
            row, power = squares[i, b, : t + 1], powers[i, b, : t + 1]
            row[t], power[t] = size.shape[2], 0
            if _least(row) < LEAST_SQUARE:
                _mend(row, power, size[b], inverse[b], exponent[b], t)
            for k in range(t + 1):
                power[k] += double
            root_and_log10(row, power, roots[b], log_rows[b])
        laid_out(roots, t + 1, norms[t])
        laid_out(log_rows, t + 1, logs[t])
        norms[t, t + 1 :] = np.nan
        logs[t, t + 1 :] = np.nan
