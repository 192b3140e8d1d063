"""Compiled square roots and logarithms, of numbers with exponents, in one go.

Imported through `gradsim.machine.accelerator` only, because it needs numba.
"""

# mypy: disable-error-code="no-untyped-def, operator"

from __future__ import annotations

import math

import numpy as np
from numba import njit

_FRACTION = (1 << 52) - 1
_ROOT_OF_2 = int(np.float64(math.sqrt(2.0)).view(np.int64)) & _FRACTION

_WHOLE = 0x4338000000000000
_WHOLE_AS_FLOAT = 1.5 * 2.0**52
"""A number whose last bits count ones: integers turn into floats by addition, which vectors can do."""

_HALF_LOG10_2 = math.log10(2.0) / 2
_LOG10_E = math.log10(math.e)

_compiled = njit(nogil=True, cache=True, error_model="numpy")


@njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract", "nsz"})
def root_and_log10(squares, powers, roots, logs):
    """Square roots of squares * 2**powers, and log10 of the roots. One loop, which becomes vectors.

    Squares are zero, normal numbers, infinite or NaN.
    """
    for i in range(len(squares)):
        square = squares[i]
        bits = np.float64(square).view(np.int64)
        fraction = bits & _FRACTION
        upper = np.int64(fraction > _ROOT_OF_2)
        power = (bits >> 52) - 1023 + upper + powers[i]
        # x * 2**power, with x between sqrt(1/2) and sqrt(2); log(x) = 2 artanh(s), by its series.
        x = np.int64(fraction | ((1023 - upper) << 52)).view(np.float64)
        s = (x - 1.0) / (x + 1.0)
        z = s * s
        p = 1 / 21
        p = p * z + 1 / 19
        p = p * z + 1 / 17
        p = p * z + 1 / 15
        p = p * z + 1 / 13
        p = p * z + 1 / 11
        p = p * z + 1 / 9
        p = p * z + 1 / 7
        p = p * z + 1 / 5
        p = p * z + 1 / 3
        p = p * z + 1.0
        log = _LOG10_E * s * p + _HALF_LOG10_2 * (np.int64(power + _WHOLE).view(np.float64) - _WHOLE_AS_FLOAT)
        odd = power & 1
        half = (power - odd) >> 1
        # By two factors: the first changes no digit, the second rounds once, to 0 or infinity too.
        first = min(max(half, -1000), 1000)
        second = min(max(half - first, -1000), 1000)
        root = math.sqrt(x + x * odd)
        root *= np.int64((first + 1023) << 52).view(np.float64)
        root *= np.int64((second + 1023) << 52).view(np.float64)
        ordinary = (square > 0) & (square < math.inf)
        roots[i] = root if ordinary else square
        logs[i] = log if ordinary else (-math.inf if square == 0 else square)


@_compiled
def laid_out(rows, width, out):
    """Rows (batch, source) to columns (source, batch), of the first `width` sources."""
    batch = len(rows)
    b = 0
    while b + 8 <= batch:  # a cache line at a time
        for k in range(width):
            out[k, b], out[k, b + 1] = rows[b, k], rows[b + 1, k]
            out[k, b + 2], out[k, b + 3] = rows[b + 2, k], rows[b + 3, k]
            out[k, b + 4], out[k, b + 5] = rows[b + 4, k], rows[b + 5, k]
            out[k, b + 6], out[k, b + 7] = rows[b + 6, k], rows[b + 7, k]
        b += 8
    for k in range(width):
        for c in range(b, batch):
            out[k, c] = rows[c, k]


@_compiled
def finish(squares, exponents, first, norms, logs):
    """See `gradsim.engine.norms.finish`."""
    size, times, sources = squares.shape
    roots, log_rows = np.empty((size, sources)), np.empty((size, sources))
    powers = np.empty(sources, np.int64)
    for n in range(times):
        width = first + n + 1
        for b in range(size):
            for k in range(width):
                powers[k] = 2 * exponents[b, n, k]
            root_and_log10(squares[b, n, :width], powers, roots[b], log_rows[b])
        laid_out(roots, width, norms[n])
        laid_out(log_rows, width, logs[n])
        norms[n, width:] = np.nan
        logs[n, width:] = np.nan
