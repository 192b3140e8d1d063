"""Roots and logarithms of numbers with exponents, and their layout, against long double."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.engine.norms.finish import finish

compiled_or_not = pytest.mark.parametrize("compiled", ["0", "1"], ids=["numpy", "compiled"])


def finished(squares, exponents):
    norms, logs = np.full((2, *squares.transpose(1, 2, 0).shape), 7.0)
    finish(squares, exponents, 0, norms, logs)
    return norms, logs


@compiled_or_not
@pytest.mark.parametrize("spread", [0, 1, 30, 1500], ids=lambda s: f"2**{s}")
@pytest.mark.parametrize("batch", [1, 3, 11])
def test_roots_are_exact_and_logarithms_nearly(rng, monkeypatch, compiled, spread, batch):
    """Sizes near 1, as far as float64 reaches, and beyond it."""
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    squares = 10 ** rng.uniform(*((-0.1, 0.1) if spread == 0 else (-200, 200)), (batch, 40, 40))
    exponents = rng.integers(-spread, spread + 1, squares.shape).astype(np.int32)
    later = np.triu_indices(40, 1)
    squares[:, *later] = np.nan
    norms, logs = finished(squares, exponents)
    lower = np.tril_indices(40)
    with np.errstate(over="ignore", under="ignore"):
        roots = np.ldexp(np.sqrt(squares), exponents)[:, *lower].T
    np.testing.assert_array_equal(norms[lower], roots)
    wide = [x[:, *lower].T.astype(np.longdouble) for x in (squares, exponents)]
    exact = np.log10(wide[0]) / 2 + wide[1] * np.log10(np.longdouble(2))
    # NumPy adds the logarithm of the exponent, which may cancel.
    close = 3e-17 if compiled == "1" else 2e-16 + 1e-16 * spread
    np.testing.assert_allclose(logs[lower], exact.astype(np.float64), rtol=1e-15, atol=close)
    assert np.isnan(norms[later]).all()
    assert np.isnan(logs[later]).all()


@compiled_or_not
def test_zero_one_infinite_and_nan(monkeypatch, compiled):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    squares = np.array([[[np.nan, np.nan], [0, 1]], [[np.inf, np.nan], [4, 0.25]]])
    with np.errstate(divide="ignore"):
        norms, logs = finished(squares, np.zeros(squares.shape, dtype=np.int32))
    np.testing.assert_array_equal(norms, [[[np.nan, np.inf], [np.nan] * 2], [[0, 2], [1, 0.5]]])
    half = np.log10(2)
    np.testing.assert_allclose(
        logs, [[[np.nan, np.inf], [np.nan] * 2], [[-np.inf, half], [0, -half]]], rtol=1e-15
    )


@compiled_or_not
def test_rows_are_those_of_the_whole(rng, monkeypatch, compiled):
    monkeypatch.setenv("GRADSIM_COMPILED", compiled)
    squares = rng.uniform(0.1, 2, (3, 12, 12))
    exponents = rng.integers(-5, 6, squares.shape).astype(np.int32)
    whole, parts = finished(squares, exponents), np.full((2, 12, 12, 3), 7.0)
    for rows in (slice(0, 5), slice(5, 12)):
        finish(squares[:, rows], exponents[:, rows], rows.start, *parts[:, rows])
    np.testing.assert_array_equal(parts, whole)
