"""Cells made as large as a common budget allows."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradsim import matched
from gradsim.errors import InputError
from gradsim.run.matching import parameter_count
from gradsim_cells import GRU, LRU, LSTM, SLSTM, URNN, ClockworkRNN, EchoState, Elman, MinGRU, Stack

CELLS = {
    "elman": Elman(3),
    "gru": GRU(3),
    "lstm": LSTM(3, forget_bias=2.0),
    "min_gru": MinGRU(3),
    "lru": LRU(3),
}


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
        (CELLS, {"params": 10}, r"GRU\(.*\): one unit is beyond the budget of 10; give a larger one"),
        ({"two": Stack()}, {"params": 1000}, r"Stack\(.*\) has no hidden_size"),
        ({"elman": Elman()}, {"state": 10**9}, "is within the budget of 1000000000; give a smaller one"),
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
