"""Which components parameters act on: what rules keep of the influence."""

from __future__ import annotations

import numpy as np
import pytest
from rules import both, close, shipped, small, taken

from gradsim_cells import GRU, LRU, LSTM, ClockworkRNN, Elman, IndRNN, MinGRU, ShallowPLRNN, Stack
from gradsim_mitigations import RTRL
from gradsim_mitigations.influence import Forward, plain
from gradsim_mitigations.reach import Acting
from gradsim_tasks import CopyMemory


def carried(forward):
    """Numbers of the influence of one batch element."""
    return sum(np.prod(part.shape) for part in forward._parts)


@pytest.mark.parametrize("name", [n for n in shipped() if not small(n).step_data])
def test_parameters_act_on_what_their_derivatives_say(name, rng):
    trajectory, _ = taken(small(name), rng)
    inside, _ = plain(trajectory)
    slopes = inside.params_jacobian()
    expected = np.concatenate([(g != 0).any((0, 1)).reshape(g.shape[2], -1) for g in slopes.values()], axis=1)
    acting = Acting.of(inside)
    found = np.zeros_like(expected)
    for colour, at in enumerate(acting.at):
        columns = np.flatnonzero(at >= 0)
        assert (acting.colours[at[columns]] == colour).all()
        found[at[columns], columns] = True
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    ("cell", "rule", "numbers"),
    [
        (Elman(3, 4), {}, 4 * 32),
        (Elman(3, 4), {"depth": 1}, 32),
        (LSTM(3, 4), {}, 8 * 128),
        (LSTM(3, 4), {"depth": 1}, (2 + 2 + 2 + 1) * 32),  # an output gate does not act on c at once
        (
            GRU(3, 4),
            {"depth": 1},
            sum(p.size for p in GRU(3, 4).init_params(np.random.default_rng(0)).values()),
        ),
        (IndRNN(3, 4), {}, 4 * (3 + 1 + 1)),
        (MinGRU(3, 4), {}, 8 * (3 + 1)),
        (LRU(3, 4), {}, 2 * 4 * (3 + 3 + 3)),
        (Stack((IndRNN(3, 4), IndRNN(4, 4))), {}, 20 * (1 + 4) + 4 * 6),
    ],
    ids=repr,
)
def test_no_more_is_carried_than_parameters_reach(cell, rule, numbers, rng):
    trajectory, _ = taken(cell, rng)
    assert carried(Forward(trajectory, **rule)) == numbers


@pytest.mark.parametrize("cell", [IndRNN(3, 9), LRU(3, 20), Stack((IndRNN(3, 9), Elman(9, 4)))], ids=repr)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_many_units_with_few_parameters_are_carried_side_by_side(cell, dtype, rng):
    assert any(len(part.rows) > part.columns.shape[1] for part in Forward(taken(cell, rng)[0])._parts)
    exact, found = both(cell, RTRL(), dtype=dtype)
    close(found, exact, 1e-10 if dtype == "float64" else 1e-5)


def test_what_acts_at_one_step_of_all_is_found():
    cell = ClockworkRNN(3, 4, periods=(1, 9))
    exact, found = both(cell, RTRL())
    close(found, exact)


def test_what_acts_rarely_counts_in_float32_too():
    """Pieces of a piecewise linear network that a few steps of forty are in."""
    exact, found = both(ShallowPLRNN(10, 16), RTRL(), task=CopyMemory(delay=20), dtype="float32", rng=5)
    close(found, exact, tolerance=1e-5)
