"""Cells made as large as a common budget allows."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from gradsim import Cell, matched
from gradsim.errors import InputError
from gradsim.run.matching import COUNTS, parameter_count, units
from gradsim_cells import (
    GRU,
    LRU,
    LSTM,
    SLSTM,
    URNN,
    ClockworkRNN,
    EchoState,
    Elman,
    Jordan,
    MinGRU,
    Residual,
    Stack,
    Zoneout,
)
from gradsim_tasks import Adding

CELLS = {
    "elman": Elman(3),
    "gru": GRU(3),
    "lstm": LSTM(3, forget_bias=2.0),
    "min_gru": MinGRU(3),
    "lru": LRU(3),
}


@dataclasses.dataclass(frozen=True, eq=False)
class OfTwo(Cell):
    """Always of one size."""

    name = "of_two"
    input_size: int = 1
    blocks = {"h": 2}  # noqa: RUF012

    def init_params(self, rng):
        return {}

    def step(self, params, state, inputs, xp):
        return state


@pytest.mark.parametrize("budget", [60, 1000, 5000])
def test_each_is_as_large_as_the_budget_of_parameters_allows(budget):
    for label, cell in matched(CELLS, params=budget).items():
        larger = dataclasses.replace(cell, hidden_size=cell.hidden_size + 1)
        assert parameter_count(cell) <= budget < parameter_count(larger)
        assert (
            dataclasses.replace(cell, hidden_size=1).parameters
            == dataclasses.replace(CELLS[label], hidden_size=1).parameters
        )


def test_counts_are_those_of_the_formulas():
    assert parameter_count(LSTM(3, 7)) == 4 * 7 * (3 + 7 + 1)
    assert parameter_count(Elman(3, 7)) == 7 * (3 + 7 + 1)


def test_what_no_training_changes_does_not_count_unless_nothing_else_is_there():
    assert parameter_count(URNN(3, 7)) == sum(
        p.size for n, p in URNN(3, 7).init_params(np.random.default_rng(0)).items() if n != "P"
    )
    assert parameter_count(EchoState(3, 7)) == 7 * (3 + 7 + 1)


def test_states_of_one_size():
    found = matched(CELLS, state=10)
    assert {label: cell.hidden_size for label, cell in found.items()} == {
        **{"elman": 10, "gru": 10, "min_gru": 10},
        **{"lstm": 5, "lru": 5},
    }


def test_a_cell_that_comes_in_some_sizes_only_has_the_largest_of_them():
    cell = matched({"heads": SLSTM(3, 8, heads=4)}, state=56)["heads"]
    assert cell.hidden_size == 16


@pytest.mark.parametrize(
    ("cells", "budget", "message"),
    [
        (CELLS, {}, "one budget: params or state"),
        (CELLS, {"params": 10, "state": 10}, "one budget: params or state"),
        (CELLS, {"params": 10}, r"gru: the smallest GRU\(.*\) is beyond the budget params=10; give a larger"),
        ({"two": OfTwo()}, {"params": 1000}, r"two: OfTwo\(.*\) has no hidden_size"),
        ({"elman": Elman()}, {"state": 10**9}, "is within the budget state=1000000000; give a smaller one"),
        (
            {"j": Jordan()},
            {"state": 100},
            r"j: the size of the state of Jordan\(.*\) does not depend on its h",
        ),
        (
            {"j": Jordan()},
            {"state": 10},
            "does not depend on its hidden_size; match otherwise, or leave it out",
        ),
        (CELLS, {"params": "5000"}, "params should be a valid integer .*'5000'"),
        (CELLS, {"params": float("nan")}, "params should be a valid integer .*nan"),
        (CELLS, {"state": True}, "state should be a valid integer .*True"),
        (CELLS, {"state": 0}, "state should be greater than 0"),
        ({"task": Adding()}, {"state": 10}, "cells.task should be an instance of Cell"),
    ],
)
def test_what_cannot_be_matched_is_said(cells, budget, message):
    with pytest.raises(InputError, match=message):
        matched(cells, **budget)


@pytest.mark.parametrize(
    "cell", [SLSTM(hidden_size=100, heads=100), ClockworkRNN(hidden_size=90, periods=tuple(range(1, 91)))]
)
def test_cells_of_many_parts_are_matched(cell):
    (found,) = matched({"cell": cell}, state=600).values()
    assert 500 < found.state_size <= 600


HELD = {
    "stack": Stack((GRU(3, 16), Elman(16, 16))),
    "uneven": Stack((LSTM(3, 30), Residual(Elman(30, 30)), Residual(Elman(30, 10)))),
    "wrapped": Zoneout(Residual(LSTM(3, 7))),
    "clockwork": ClockworkRNN(3),
    "heads": SLSTM(3, 8, heads=4),
}


def of_size(cell, largest):
    """The cell in which the largest of those inside has so many units, by hand; None if there is none."""
    share = largest / max(units(cell))

    def n(before):
        return max(1, math.floor(before * share + 0.5))

    if isinstance(cell, Stack):
        below, rest = cell.cells[0], cell.cells[1:]
        made = [dataclasses.replace(below, hidden_size=n(below.hidden_size))]
        for above in rest:
            inside = above.cell if isinstance(above, Residual) else above
            fed = made[-1].output_size
            new = dataclasses.replace(inside, input_size=fed, hidden_size=n(inside.hidden_size))
            made.append(Residual(new) if isinstance(above, Residual) else new)
        return Stack(tuple(made))
    if isinstance(cell, Zoneout):
        return Zoneout(Residual(LSTM(3, largest)))
    try:
        return dataclasses.replace(cell, hidden_size=largest)
    except InputError:
        return None


@pytest.mark.parametrize("label", HELD)
@pytest.mark.parametrize(
    ("what", "budget"), [("params", 200), ("params", 2345), ("state", 33), ("state", 80)]
)
def test_no_larger_size_is_within_the_budget(label, what, budget):
    found = matched({"cell": HELD[label]}, **{what: budget})["cell"]
    sizes = (of_size(HELD[label], n) for n in range(1, 90))
    within = [cell for cell in sizes if cell is not None and COUNTS[what](cell) <= budget]
    assert units(found) == units(within[-1])
    assert COUNTS[what](found) == max(map(COUNTS[what], within))
    assert found.input_size == 3


def test_masked_weights_are_no_parameters():
    """Four modules of two units: each row sees its own module and those of longer periods."""
    cell = ClockworkRNN(3, 8)
    assert parameter_count(cell) == 8 * 3 + 8 + 2 * (8 + 6 + 4 + 2)
    assert parameter_count(Stack((Zoneout(cell), cell.__class__(8, 8)))) == 2 * parameter_count(cell) + 8 * 5
