"""Slopes of units, against central differences of each unit."""

from __future__ import annotations

import numpy as np
import pytest
from probes.cells import Chained, Coupled, Peephole, Sized

from gradsim.contracts.dense import slopes as pieces
from gradsim.contracts.dense.slopes import Slopes, SlopesByStep, slopes_at, steps_at_once
from gradsim.errors import PluginError
from gradsim_cells import GRU, LSTM, Elman

CELLS = [Coupled(), Peephole(), Chained(), LSTM(2, 4), GRU(2, 4), Elman(2, 4, activation="logistic")]
each_cell = pytest.mark.parametrize("cell", CELLS, ids=repr)


def matrix(cell, sums, old, h=1e-6):
    """d new k / d argument i of each unit, (blocks, sums + blocks, ..., n), by moving all units at once."""
    given = np.concatenate((cell.parted(sums), cell.parted(old)))
    found = np.empty((len(cell.blocks), *given.shape))
    for i in range(len(given)):
        ends = []
        for sign in (1, -1):
            moved = given.copy()
            moved[i] += sign * h
            ends.append(np.stack(cell.made(tuple(moved[: cell.sums]), tuple(moved[cell.sums :]), np, {})))
        found[:, i] = (ends[0] - ends[1]) / (2 * h)
    return found


@pytest.fixture
def place(cell, rng):
    n, blocks = cell.units, len(cell.blocks)
    return [rng.standard_normal((7, 3, count * n)) for count in (cell.sums, blocks)]


@each_cell
def test_cotangents_are_pulled_back_by_the_slopes(cell, place, rng):
    sums, old = place
    expected = matrix(cell, sums, old)
    cotangents = rng.standard_normal((len(cell.blocks), 7, 3, cell.units))
    d, beside = np.full((cell.sums, 7, 3, cell.units), np.nan), np.ones((len(cell.blocks), 7, 3, cell.units))
    given = cotangents.copy()
    cell.slopes(sums, old, {}).pull(cotangents, d, beside)
    pulled = np.einsum("ktbn,kitbn->itbn", given, expected)
    np.testing.assert_allclose(d, pulled[: cell.sums], atol=1e-8)
    np.testing.assert_allclose(beside - 1, pulled[cell.sums :], atol=1e-8)
    np.testing.assert_array_equal(cotangents, given)


@each_cell
@pytest.mark.parametrize("piece_bytes", [1, 4 * 3 * 4 * 8, 2**18])
def test_slopes_step_by_step_are_those_of_all_steps(cell, place, rng, piece_bytes, monkeypatch):
    monkeypatch.setattr(pieces, "_PIECE_BYTES", piece_bytes)
    assert steps_at_once(cell, 3, np.dtype(float)) == max(1, piece_bytes // (3 * 4 * 8))
    sums, old = place
    by_step, whole = SlopesByStep(cell, sums, old, {}), cell.slopes(sums, old, {})
    shape = 7, 3, cell.units
    d, beside = np.empty((cell.sums, *shape)), np.zeros((len(cell.blocks), *shape))
    cotangents = rng.standard_normal(beside.shape)
    whole.pull(cotangents, d, beside)
    for row in (6, 5, 4, 0, 3):
        mine, other = np.empty_like(d[:, row]), np.zeros_like(beside[:, row])
        by_step.pull(row, cotangents[:, row], mine, other)
        np.testing.assert_array_equal(mine, d[:, row])
        np.testing.assert_array_equal(other, beside[:, row])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            lambda sums: 1 - np.tanh(sums) ** 2,
            "gives an array of float64, where a gradsim.contracts.dense.Slopes",
        ),
        (
            lambda sums: Slopes([(0, 0, 1 - np.tanh(sums) ** 2)], [], []),
            r"gives by_sums \(0, 0\) of shape \(sums, 4\), where \(sums, 3, 4\) is needed",
        ),
        (
            lambda sums: Slopes([], [(0, 0, sums[0])], []),
            r"gives by_old \(0, 0\) of shape \(4\), where \(3, 4\) is needed",
        ),
    ],
)
def test_slopes_of_another_kind_or_shape_are_refused(given, message, rng):
    class Own(Sized):
        name = "own_slopes"

        def unit(self, sums, old, xp):
            return xp.tanh(sums[0])

        def slopes(self, sums, old, data):
            return given(sums)

    with pytest.raises(PluginError, match=message):
        slopes_at(Own(), rng.standard_normal((3, 4)), rng.standard_normal((3, 4)), {})
