"""What the compiled passes are made of: products with weights, and tanh."""

# mypy: disable-error-code="no-untyped-def, no-untyped-call, no-any-return, call-overload"

from __future__ import annotations

import functools
import math

import numpy as np
from llvmlite import binding, ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from gradsim.numerics.scaled import ROOM

OPTIONS = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
"""Of every compiled function. A product and a sum may become one operation; nothing is reordered."""


def _vector_bytes():
    """What the registers of this machine hold; no number depends on it."""
    try:
        features = binding.get_host_cpu_features()
    except RuntimeError:  # LLVM does not know the machine
        features = {}
    return 64 if features.get("avx512f") else 32


_VECTOR_BYTES = _vector_bytes()

STRIP_BYTES = 2 * _VECTOR_BYTES
"""Columns of a weight that are read together."""


def _tile(rows, anew=False):
    """out[row:row+rows, column:column+width] += left[row:row+rows] @ strip (K, width).

    The sums stay in registers while K runs: two vectors for each row. LLVM does not find this form by
    itself, so it is spelled out. `anew` they begin at zero and not at what is there: long sums lose less.
    """

    @intrinsic
    def tile(typing_context, left, strip, out, row, column):
        def generate(context, builder, signature, arguments):
            kinds, scalar = signature.args, context.get_value_type(out.dtype)
            arrays = [
                context.make_array(k)(context, builder, a)
                for k, a in zip(kinds[:3], arguments[:3], strict=True)
            ]
            vector = ir.VectorType(scalar, _VECTOR_BYTES * 8 // out.dtype.bitwidth)
            first = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), None)
            nothing = ir.Constant(vector, ir.Undefined)
            number = functools.partial(ir.Constant, ir.IntType(64))

            def pointer(i, *index):
                return cgutils.get_item_pointer(context, builder, kinds[i], arrays[i], index)

            def along(i, axis):
                """The way to the next number along the sum, in numbers."""
                stride = builder.extract_value(arrays[i].strides, axis)
                return builder.sdiv(stride, number(out.dtype.bitwidth // 8))

            def as_vector(at):
                return builder.bitcast(at, vector.as_pointer())

            def load(at):
                return builder.load(as_vector(at), align=out.dtype.bitwidth // 8)

            def broadcast(value):
                held = builder.insert_element(nothing, value, ir.Constant(ir.IntType(32), 0))
                return builder.shuffle_vector(held, nothing, first)

            lines = [builder.add(arguments[3], number(r)) for r in range(rows)]
            offsets = [number(v * vector.count) for v in range(2)]
            outs = [pointer(2, line, builder.add(arguments[4], v)) for line in lines for v in offsets]
            zero = ir.Constant(vector, [ir.Constant(scalar, 0.0)] * vector.count)
            sums = [cgutils.alloca_once_value(builder, zero if anew else load(at)) for at in outs]
            lefts = [pointer(0, line, number(0)) for line in lines]
            rights = [pointer(1, number(0), v) for v in offsets]
            left_step, right_step = along(0, 1), along(1, 0)
            with cgutils.for_range(builder, builder.extract_value(arrays[1].shape, 0)) as loop:
                left_skip, right_skip = (builder.mul(loop.index, s) for s in (left_step, right_step))
                right = [load(builder.gep(at, [right_skip])) for at in rights]
                factors = [broadcast(builder.load(builder.gep(at, [left_skip]))) for at in lefts]
                for i, total in enumerate(sums):
                    term = builder.fmul(factors[i // 2], right[i % 2], flags=("contract",))
                    builder.store(builder.fadd(builder.load(total), term, flags=("contract",)), total)
            for at, total in zip(outs, sums, strict=True):
                whole = builder.load(total)
                whole = builder.fadd(load(at), whole) if anew else whole
                builder.store(whole, as_vector(at), align=out.dtype.bitwidth // 8)
            return context.get_dummy_value()

        return types.void(left, strip, out, types.intp, types.intp), generate

    return tile


_eight_rows, _four_rows, _one_row = _tile(8), _tile(4), _tile(1)
_eight_anew, _one_anew = _tile(8, anew=True), _tile(1, anew=True)


@njit(**OPTIONS)
def add_product(left, weight, out, column):
    """Add left (rows, K) @ weight, in strips, to `out` (rows, ...) from `column` on."""
    for s in range(len(weight)):
        row = 0
        while row + 8 <= len(left):
            _eight_rows(left, weight[s], out, row, column + s * weight.shape[2])
            row += 8
        while row + 4 <= len(left):
            _four_rows(left, weight[s], out, row, column + s * weight.shape[2])
            row += 4
        while row < len(left):
            _one_row(left, weight[s], out, row, column + s * weight.shape[2])
            row += 1


_POSITIONS = 128
"""Positions whose cotangents and factors stay in cache while all their products are made."""


def add_gradient(cotangents, factor, out, first, last):
    """Add cotangents (positions, G)[:, first:last].T @ factor (positions, K) to `out` (G, K) [first:last].

    K in whole strips.
    """
    width = STRIP_BYTES // factor.itemsize
    for start in range(0, len(factor), _POSITIONS):
        stop = min(start + _POSITIONS, len(factor))
        left = cotangents[start:stop].T
        for column in range(0, factor.shape[1], width):
            strip, row = factor[start:stop, column : column + width], first
            while row + 8 <= last:
                _eight_anew(left, strip, out, row, column)
                row += 8
            while row < last:
                _one_anew(left, strip, out, row, column)
                row += 1


at = np.uintp
"""Around a sum that is an index: else its sign is looked at, and loops do not become vectors."""


@njit(**OPTIONS)
def preactivations(inputs, states, input_weight, state_weight, bias, column, out):
    """Fill `out` with x W + b, and add the product with the state from `column` on."""
    for b in range(len(out)):
        for j in range(len(bias)):
            out[b, j] = bias[j]
        for j in range(out.shape[1] - len(bias)):
            out[b, at(len(bias) + j)] = 0
    add_product(inputs, input_weight, out, 0)
    add_product(states, state_weight, out, column)


@njit(**OPTIONS)
def room(rows, input_weight, state_weight, column):
    """An array for preactivations, wide enough for whole strips."""
    strips = max(len(input_weight), len(state_weight))
    return np.empty((rows, column + strips * input_weight.shape[2]), dtype=input_weight.dtype)


@njit(**OPTIONS)
def pull(cotangents, state_weight, out):
    """Fill `out` with cotangents (rows, G) @ state_weight (G, n)."""
    for b in range(len(out)):
        for j in range(out.shape[1]):
            out[b, j] = 0
    add_product(cotangents, state_weight, out, 0)


# The size of a number, as an integer that grows with it, NaN above all: comparing those becomes vectors.


def _size32(x):
    return np.int32(np.float32(x).view(np.int32) & 0x7FFFFFFF)


def _size64(x):
    return np.int64(np.float64(x).view(np.int64) & 0x7FFFFFFFFFFFFFFF)


def size(x):
    """What is larger for the larger number; in compiled code that which stands above."""
    return abs(x)


@overload(size)
def _size(x):
    return _size32 if x == types.float32 else _size64


_MOST = 2.0 ** ROOM[4], 2.0 ** ROOM[8]


@njit(**OPTIONS)
def _is_lost(adjoints, t, b):
    """Whether a tiny adjoint should be larger. Zero is right where there has been nothing."""
    lost = False
    for j in range(adjoints.shape[2]):
        lost |= adjoints[t, b, j] != 0 or adjoints[t + 1, b, j] != 0
    return lost


@njit(**OPTIONS)
def range_ends(adjoints, t, ends, first, last):
    """Note in `ends` (batch) whether `adjoints[t, first:last]` have left their range, made of those after.

    Whether it is in vain to go on: what one row makes of the steps before is thrown away once another stops.
    """
    most = _MOST[adjoints.itemsize // 8]
    beyond, within = size(adjoints.dtype.type(most)), size(adjoints.dtype.type(1 / most))
    for b in range(first, last):
        largest = size(adjoints[t, b, 0])
        for j in range(adjoints.shape[2]):
            largest = max(largest, size(adjoints[t, b, j]))
        if largest >= beyond or (largest < within and _is_lost(adjoints, t, b)):
            ends[b] = t
    latest = ends[0]
    for end in ends:
        latest = max(latest, end)
    return latest >= t


# tanh = e / (e + 2) with e = exp(y) - 1 and y = 2|x|. For y = k ln 2 + r, e = 2^k (exp(r) - 1) + (2^k - 1),
# and exp(r) - 1 is a short series. Within 3 units in the last place; NaN stays NaN; loops become vectors.


@njit(**OPTIONS)
def _power32(shifted):
    return np.int32((np.float32(shifted).view(np.int32) << 23) + 0x3F800000).view(np.float32)


@njit(**OPTIONS)
def _power64(shifted):
    return np.int64((np.float64(shifted).view(np.int64) << 52) + 0x3FF0000000000000).view(np.float64)


def _tanh_of(kind, power_of, bits, terms, ln2_high, ln2_low):
    """The function for floats with `bits` in the mantissa; `power_of` makes 2^k of k + `rounding`."""
    rounding = kind(1.5 * 2.0**bits)  # when it is added, only whole numbers are left, in the lowest bits
    rate, high, low = kind(1 / math.log(2)), kind(ln2_high), kind(ln2_low)
    one, two, limit = kind(1), kind(2), kind(40)
    series = tuple(kind(1 / math.factorial(i)) for i in range(terms, 1, -1))

    def tanh_of_kind(x):
        y = two * abs(x)
        if y > limit:
            y = limit
        shifted = y * rate + rounding
        k = shifted - rounding
        r = (y - k * high) - k * low
        p = series[0]
        for c in series[1:]:
            p = p * r + c
        power = power_of(shifted)
        e = power * (p * r * r + r) + (power - one)
        t = e / (e + two)
        return -t if x < 0 else t

    return tanh_of_kind


_tanh32 = _tanh_of(np.float32, _power32, 23, 7, 0.693359375, -2.12194440e-4)
_tanh64 = _tanh_of(np.float64, _power64, 52, 13, 6.93147180369123816490e-01, 1.90821492927058770002e-10)


def tanh(x):
    """The hyperbolic tangent; in compiled code that which follows."""
    return math.tanh(x)


@overload(tanh)
def _tanh(x):
    return _tanh32 if x == types.float32 else _tanh64


@njit(**OPTIONS)
def sigmoid(x):
    """1 / (1 + exp(-x))."""
    half = type(x)(0.5)
    return half * tanh(half * x) + half
