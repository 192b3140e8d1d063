"""Compiled roots and logarithms, number by number."""

from __future__ import annotations

import math

import numpy as np
import pytest

pytest.importorskip("numba")

from gradsim.engine.norms.finish_kernels import laid_out, root_and_log10


@pytest.mark.parametrize("count", [1, 7, 64])
def test_powers_of_two_are_exact(count):
    exponents = np.arange(-count, count, dtype=np.int32)
    roots, logs = np.empty((2, 2 * count))
    root_and_log10(np.full(2 * count, 4.0), 2 * exponents, roots, logs)
    np.testing.assert_array_equal(roots, 2.0 ** (exponents + 1))
    np.testing.assert_allclose(logs, (exponents + 1) * math.log10(2), rtol=1e-15)


def test_the_ends_of_the_range():
    """Subnormal numbers rounded once, the largest number, and what lies just beyond."""
    squares = np.array([1.0, 1.9, 1.1, 1.1, 1.0, 1.0, 1.0])
    exponents = np.array([-1074, -1074, -1060, -1075, 1023, 1024, 2**28], dtype=np.int32)
    roots, logs = np.empty((2, len(squares)))
    root_and_log10(squares, 2 * exponents, roots, logs)
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(roots, np.ldexp(np.sqrt(squares), exponents))
    assert np.isfinite(logs).all()


def test_rows_become_columns(rng):
    rows, out = rng.standard_normal((3, 5)), np.full((5, 3), 7.0)
    laid_out(rows, 4, out)
    np.testing.assert_array_equal(out[:4], rows.T[:4])
    assert (out[4] == 7).all()
