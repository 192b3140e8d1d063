"""Scaled numbers against integers of unlimited size and closed forms."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from gradsim.numerics.scaled import (
    KEEP,
    LEAST_SQUARE,
    LOWEST,
    Scaled,
    add,
    combine,
    euclidean,
    norm,
    range_end,
    ratio,
)

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


def vectors(rng, dtype, *exponents):
    """One vector of three numbers for each exponent."""
    mantissa = rng.standard_normal((len(exponents), 3)).astype(dtype)
    return Scaled(mantissa, np.array(exponents, dtype=np.int32)[:, None])


def exact(scaled):
    """The numbers as fractions, nested lists."""
    whole = np.broadcast_to(scaled.exponent, scaled.mantissa.shape)
    numbers = [
        Fraction(float(m)) * Fraction(2) ** int(e)
        for m, e in zip(scaled.mantissa.ravel(), whole.ravel(), strict=True)
    ]
    return np.array(numbers, dtype=object).reshape(scaled.mantissa.shape)


@each_dtype
def test_settling_moves_powers_of_two_and_changes_no_number(rng, dtype):
    keep = KEEP[np.dtype(dtype).itemsize]
    start = vectors(rng, dtype, 0, 7, -5000, 5000)
    start = Scaled(
        np.ldexp(start.mantissa, np.array([[0], [keep + 9], [-keep - 9], [keep - 3]])), start.exponent
    )
    settled = start.settled()
    assert (exact(settled) == exact(start)).all()
    assert (settled.exponent[:, 0] != start.exponent[:, 0]).tolist() == [False, True, True, False]
    sizes = np.abs(settled.mantissa).max(axis=-1)
    assert ((sizes < 2.0**keep) & (sizes > 2.0**-keep)).all()
    assert settled.settled() is settled


def test_a_block_and_a_whole_array_settle_with_one_exponent(rng):
    blocks = Scaled(rng.standard_normal((4, 2, 2)) * 2.0**300, np.zeros((4, 1, 1), dtype=np.int32))
    each, whole = (
        blocks.settled((-2, -1)),
        Scaled(blocks.mantissa, np.zeros((), dtype=np.int32)).settled(None),
    )
    assert each.exponent.shape == (4, 1, 1)
    assert whole.exponent.shape == ()
    for settled in (each, whole):
        assert (exact(settled) == exact(blocks)).all()
        assert np.abs(settled.mantissa).max() <= 1
    blocks.settle((-2, -1))
    np.testing.assert_array_equal(blocks.mantissa, each.mantissa)


@each_dtype
def test_sums_are_those_of_fractions(rng, dtype):
    a, b = vectors(rng, dtype, -3000, 5, 5, 2000), vectors(rng, dtype, -3001, 5, 12, -2000)
    found, expected = add(a, b), exact(a) + exact(b)
    error = np.abs(exact(found) - expected) / np.abs(expected)
    assert (error <= Fraction(float(np.finfo(dtype).eps)) * 64).all()
    assert found.mantissa.dtype == dtype


def test_a_zero_holds_down_no_other(rng):
    small = vectors(rng, "float64", -5000)
    for zero in (Scaled(np.zeros((1, 3)), np.full((1, 1), e, dtype=np.int32)) for e in (0, 4000, -9000)):
        for found in (add(small, zero), add(zero, small)):
            assert (exact(found) == exact(small)).all()
    nothing = add(zero, zero)
    assert not nothing.mantissa.any()
    assert not nothing.exponent.any()


def test_sums_of_arrays_with_one_exponent_each():
    a = Scaled(np.array([[1.0, 2.0], [3.0, 4.0]]), np.asarray(np.int32(1000)))
    b = Scaled(np.array([[8.0, 8.0], [8.0, 8.0]]), np.asarray(np.int32(997)))
    found = add(a, b, axis=None)
    np.testing.assert_array_equal(found.mantissa, [[2, 3], [4, 5]])
    assert found.exponent == 1000
    assert found.exponent.shape == ()


def test_a_common_exponent_is_that_of_the_largest_that_is_not_zero():
    scaled = Scaled(np.array([[1.0, 3.0], [1.0, 1.0], [0.0, 0.0]]), np.array([[-700], [-702], [900]]))
    common = scaled.common((0, 1))
    assert common.exponent.tolist() == [[-700]]
    np.testing.assert_array_equal(common.mantissa, [[1, 3], [0.25, 0.25], [0, 0]])
    assert scaled.top(1).tolist() == [[-700], [-702], [LOWEST]]
    assert not scaled[2:].common((0, 1)).exponent.any()


def test_numbers_over_a_power_of_two():
    scaled = Scaled(np.array([3.0, -1.0, 0.0]), np.array([10, 4000, 9000]))
    np.testing.assert_array_equal(scaled.over(8), [12, -np.inf, 0])
    np.testing.assert_array_equal(scaled.over(3990), [0, -1024, 0])
    same = Scaled(scaled.mantissa, np.full(3, 5))
    assert same.over(5) is same.mantissa
    np.testing.assert_array_equal(same.over(4), 2 * same.mantissa)


def test_plain_numbers_are_rounded_as_ieee_has_it():
    scaled = Scaled(np.array([1.0, 1.0, 0.0, 0.5, np.nan, -1.0]), np.array([2000, -2000, 2000, 3, 9, 2000]))
    np.testing.assert_array_equal(scaled.value, [np.inf, 0, 0, 4, np.nan, -np.inf])
    log10 = scaled[:5].log10
    np.testing.assert_allclose(log10[[0, 1, 3]], np.array([2000, -2000, 3 - 1]) * np.log10(2), rtol=1e-15)
    assert log10[2] == -np.inf
    assert np.isnan(log10[4])


@each_dtype
@pytest.mark.parametrize("far", [0, 300])
def test_plain_numbers_at_both_ends_of_the_range(rng, dtype, far):
    """Subnormal numbers too are rounded once, to the nearest; what is beyond the largest one is infinite."""
    info = np.finfo(dtype)
    mantissa = (1 + rng.random(400)).astype(dtype)
    lowest, highest = info.minexp - info.nmant - 3, info.maxexp + 1
    exponent = np.concatenate((np.arange(200) % 30 + lowest, highest - np.arange(200) % 4)).astype(np.int32)
    exponent[0] -= far  # both ways of scaling
    found = Scaled(mantissa, exponent).value
    assert found.dtype == dtype
    tiny = Fraction(2) ** (info.minexp - info.nmant)
    for m, e, value in zip(mantissa, exponent, found, strict=True):
        number = Fraction(float(m)) * Fraction(2) ** int(e)
        if number >= Fraction(2) ** info.maxexp:
            assert value == np.inf
        else:
            # Python rounds halves to even, as IEEE 754 does.
            unit = tiny if number < tiny * 2**info.nmant else Fraction(1, 2**2000)
            assert Fraction(float(value)) == round(number / unit) * unit


@pytest.mark.parametrize("size", [1.0, 2.0**-800, 2.0**800])
def test_norms_whose_squares_leave_the_range(size):
    """3, 4 and 12 have the norm 13; parts of it 5 and 12."""
    mantissa = size * np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 0.0]])
    found = norm(Scaled(mantissa, np.array([[5000], [7]])), (-1,))
    assert found.exponent.shape == (2,)
    assert found.log10[0] == pytest.approx(np.log10(13) + np.log10(size) + 5000 * np.log10(2), rel=1e-14)
    assert found.mantissa[1] == 0
    parts = Scaled(np.array([5.0, 96.0, 0.0]), np.array([-4000, -4003, 9000]))
    whole = combine(parts, 0)
    assert whole.mantissa == 13
    assert whole.exponent == -4000
    assert euclidean(mantissa) == pytest.approx(13 * size, rel=1e-15, abs=0)


def test_norms_within_the_range():
    found = norm(Scaled(np.array([[3.0, 4.0, 12.0], [0.0, 0.6, 0.8]]), np.array([[5], [0]])), (-1,))
    np.testing.assert_allclose(found.mantissa, [13, 1], rtol=1e-15)
    np.testing.assert_array_equal(found.exponent, [5, 0])


@each_dtype
def test_settling_in_place_is_the_same(dtype):
    """By default each vector along the last axis has an exponent of its own."""
    values = np.array([[1.0, 2.0], [2.0**100, 1.0], [2.0**-110, 0.0]], dtype=dtype)
    scaled = Scaled(values.copy(), np.zeros((3, 1), dtype=np.int32))
    expected = scaled.settled(-1, keep=None)
    scaled.settle()
    np.testing.assert_array_equal(scaled.mantissa, expected.mantissa)
    np.testing.assert_array_equal(scaled.exponent, expected.exponent)
    np.testing.assert_array_equal(np.ldexp(scaled.mantissa.astype(float), scaled.exponent), values)
    assert (scaled.exponent[:, 0] != 0).tolist() == ([False] + [dtype == "float32"] * 2)


def test_ratios_of_norms():
    a = [[3.0, 4.0], [1.0, 0.0], [0.0, 0.0], [0.0, 0.0], [2.0, 0.0]]
    b = [[0.0, 5.0], [0.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 8.0]]
    scaled = (Scaled(np.array(m), np.array([[e], [0], [0], [0], [0]])) for m, e in ((a, 3000), (b, 2997)))
    np.testing.assert_array_equal(ratio(*scaled), [8, np.inf, 1, 0, 0.25])


def test_squares_that_lost_digits_are_told():
    """It is a normal number by a wide margin, so that sums of squares above it have all their digits."""
    assert np.finfo(np.float64).tiny / np.finfo(np.float64).eps < LEAST_SQUARE


@pytest.mark.parametrize(("dtype", "most"), [(np.float32, 100), (np.float64, 900)])
def test_where_vectors_leave_their_range(dtype, most):
    rows = np.ones((6, 2, 3), dtype=dtype)
    assert range_end(rows) is None
    for size in (2.0**most, 2.0 ** -(most + 1), 0.0, np.inf, np.nan):
        left = rows.copy()
        left[:3, 1] = size
        left[2, 1, 0] = 0.0
        assert range_end(left) == 2
    rows[0] = 2.0**-most
    rows[1:, 1, 1:] = 0.0
    assert range_end(rows) is None
    rows[:, 1] = 0.0  # nothing has vanished
    assert range_end(rows) is None
    rows[2, 1] = 2.0 ** -(most + 1)
    assert range_end(rows) == 2
