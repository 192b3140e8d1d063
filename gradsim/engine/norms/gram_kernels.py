"""Compiled Gram matrices of blocks that are too small for a library of matrix products, eight at a time.

Imported through `gradsim.machine.accelerator` only, because it needs numba.
"""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, call-arg, import-untyped"

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from gradsim.numerics.scaled import LOWEST

_LANES = 8
_LEFTS, _RIGHTS = 2, 4

_compiled = njit(nogil=True, cache=True, error_model="numpy", fastmath={"contract"})


@intrinsic
def _inner_products(typing_context, columns, left, right, out):
    """Inner products of two columns with four, lane by lane, from `left` and `right` on: out[left, right].

    The sums stay in registers, which LLVM does not find out by itself.
    """

    def generate(context, builder, signature, arguments):
        kinds = signature.args
        arrays = {i: context.make_array(kinds[i])(context, builder, arguments[i]) for i in (0, 3)}
        vector = ir.VectorType(ir.DoubleType(), _LANES)
        number = functools.partial(ir.Constant, ir.IntType(64))

        def place(i, row, column):
            index = row, column, number(0)
            at = cgutils.get_item_pointer(context, builder, kinds[i], arrays[i], index)
            return builder.bitcast(at, vector.as_pointer())

        lefts = [builder.add(arguments[1], number(n)) for n in range(_LEFTS)]
        rights = [builder.add(arguments[2], number(n)) for n in range(_RIGHTS)]
        nothing = ir.Constant(vector, [0.0] * _LANES)
        sums = {
            pair: cgutils.alloca_once_value(builder, nothing) for pair in itertools.product(lefts, rights)
        }
        with cgutils.for_range(builder, builder.extract_value(arrays[0].shape, 0)) as loop:
            at = {c: builder.load(place(0, loop.index, c), align=8) for c in (*lefts, *rights)}
            for (c, d), total in sums.items():
                term = builder.fmul(at[c], at[d], flags=("contract",))
                builder.store(builder.fadd(builder.load(total), term, flags=("contract",)), total)
        for (c, d), total in sums.items():
            builder.store(builder.load(total), place(3, c, d), align=8)
        return context.get_dummy_value()

    return types.void(columns, types.intp, types.intp, out), generate


@_compiled
def _rescale(block):
    """Bring the largest element of a block between 1/2 and 1, in place; the exponent that takes."""
    largest = 0.0
    for a in range(block.shape[0]):
        for c in range(block.shape[1]):
            largest = max(largest, abs(np.float64(block[a, c])))
    shift = math.frexp(largest)[1]
    for a in range(block.shape[0]):
        for c in range(block.shape[1]):
            block[a, c] = math.ldexp(np.float64(block[a, c]), -shift)
    return shift


@_compiled
def _products(blocks, times, columns, sums):
    """X^T X of blocks (time, k, k) at eight times, side by side in `sums`."""
    k = blocks.shape[1]
    for lane in range(_LANES):
        block = blocks[times[lane]]
        for a in range(k):
            for c in range(k):
                columns[a, c, lane] = block[a, c]
    for c in range(0, k, _LEFTS):
        for d in range(c, k, _RIGHTS):
            _inner_products(columns, c, d, sums)


@_compiled
def _traces(sums, k, total):
    total[:] = 0
    for c in range(k):
        for lane in range(_LANES):
            total[lane] += sums[c, c, lane]


@_compiled
def _weigh(exponents, here, matrix, trace, top, first):
    """One exponent for all groups, as they are summed: what is tiny beside the largest becomes zero."""
    for lane in range(_LANES):
        n, highest = first + lane, LOWEST
        for j in range(len(trace)):
            if trace[j, n] > 0:
                highest = max(highest, exponents[j, here[lane]])
        top[n] = highest
        for j in range(len(trace)):
            down = exponents[j, here[lane]] - highest
            if trace[j, n] > 0 and down < 0:
                weight = math.ldexp(1.0, 2 * down)
                trace[j, n] *= weight
                matrix[:, j, n] *= weight


@_compiled
def grams(products, exponents, times, keep, beside, matrix, trace, top):
    """X^T X of products (batch, g, time, k, k) at chosen times, over 4**top: upper triangles.

    `matrix` (batch, triangle, g, chosen), `trace` (batch, g, chosen), `top` (batch, chosen). Elements
    beside the diagonal are times `beside`: 2 in one of two factors, so that inner products count them twice.
    Brings products and their exponents into range, too, where traces are not within 1 / keep..keep. Chosen
    times are a multiple of eight.
    """
    batch, groups, _, k, _ = products.shape
    columns, sums = np.zeros((2, k + 1, k + _RIGHTS, _LANES))
    columns = columns[:k]
    total = np.empty(_LANES)
    for b in range(batch):
        for first in range(0, len(times), _LANES):
            here = times[first : first + _LANES]
            for j in range(groups):
                _products(products[b, j], here, columns, sums)
                _traces(sums, k, total)
                again = False
                for lane in range(_LANES):
                    if not (1 / keep < total[lane] < keep or total[lane] == 0):
                        exponents[b, j, here[lane]] += _rescale(products[b, j, here[lane]])
                        again = True
                if again:
                    _products(products[b, j], here, columns, sums)
                    _traces(sums, k, total)
                trace[b, j, first : first + _LANES] = total
                at = 0
                for c in range(k):
                    for d in range(c, k):
                        out = matrix[b, at, j, first : first + _LANES]
                        weight = 1.0 if d == c else beside
                        for lane in range(_LANES):
                            out[lane] = sums[c, d, lane] * weight
                        at += 1
            _weigh(exponents[b], here, matrix[b], trace[b], top[b], first)
