"""Second derivatives of dense cells, which follow from one unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from stepping import moved

from gradsim import Cell, Dense
from gradsim.errors import PluginError
from gradsim_cells import BRC, GRU, IRNN, LIF, LSTM, NBRC, QRNN, Elman, IndRNN, LiGRU, MinLSTM, PeepholeLSTM

CELLS = [
    *(Elman(2, 4, activation=a) for a in ("tanh", "relu", "logistic")),
    *(kind(2, 4) for kind in (GRU, LSTM, PeepholeLSTM, LiGRU, BRC, NBRC, IRNN, IndRNN, QRNN, MinLSTM, LIF)),
    GRU(2, 4, reset_after=False),
]


def place(cell, rng):
    return moved(cell, rng), rng.standard_normal((5, 3, cell.state_size)), rng.standard_normal((5, 3, 2))


def expect_same(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        both = [(ours, theirs)] if isinstance(ours, np.ndarray) else [(ours[n], theirs[n]) for n in theirs]
        for one, other in both:
            np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("cell", CELLS, ids=repr)
def test_they_are_those_of_the_step_by_autograd(cell, rng):
    given = place(cell, rng)
    left, right = rng.standard_normal((2, 4, *given[1].shape))
    expect_same(cell.bilinear_vjp(*given, left, right), Cell.bilinear_vjp(cell, *given, left, right))
    cotangent = rng.standard_normal(cell.step_jacobian(*given).shape)
    free = Cell.jacobian_vjp(cell, *given, cotangent)
    expect_same(cell.jacobian_vjp(*given, cotangent), free)
    one = tuple(x[0, 0] if i else x for i, x in enumerate(given))
    expect_same(
        cell.bilinear_vjp(*one, left[:, 0, 0], right[:, 0, 0]),
        Cell.bilinear_vjp(cell, *one, left[:, 0, 0], right[:, 0, 0]),
    )


@pytest.mark.parametrize("cell", [Elman(2, 4), GRU(2, 4), LSTM(2, 4)], ids=repr)
def test_analytic_bends_are_those_of_the_unit(cell, rng):
    sums, old = rng.standard_normal((2, 3, cell.sums * 4)), rng.standard_normal((2, 3, cell.state_size))
    blocks = len(cell.blocks)
    weights = rng.standard_normal((blocks, cell.sums + blocks, 2, 3, 4))
    np.testing.assert_allclose(
        cell.bends(sums, old, weights, {}), Dense.bends(cell, sums, old, weights, {}), rtol=1e-12, atol=1e-13
    )


def test_another_unit_leaves_the_bends_behind():
    @dataclass(frozen=True, eq=False)
    class Steeper(Elman):
        name = "steeper"

        def unit(self, sums, old, xp):
            return xp.tanh(2 * sums[0])

    assert Steeper.bends is Dense.bends
    assert Steeper(2, 4).written("bilinear_vjp") == "unit"
    assert Elman(2, 4).written("bilinear_vjp") == "bends"


def test_bends_of_another_shape_are_refused(rng):
    @dataclass(frozen=True, eq=False)
    class Flat(Elman):
        name = "flat"

        def bends(self, sums, old, weights, data):
            return weights[0, 0]

    cell = Flat(2, 4)
    given = place(cell, rng)
    with pytest.raises(PluginError, match=r"bends\(\) has shape \(15, 4\), where \(2, 15, 4\) is needed"):
        cell.bilinear_vjp(*given, *np.ones((2, 1, *given[1].shape)))
