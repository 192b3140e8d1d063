"""Random runs against plain loops: a few in every suite, 400 in the long one."""

from __future__ import annotations

import numpy as np
import pytest
from loops.comparing import TOLERANCE, Table, compare, deviation
from loops.drawing import draw
from loops.expecting import Expected
from loops.running import held

NUMBERS = 400


def compared(numbers):
    table = Table()
    problems = [problem for number in numbers for problem in compare(draw(number), table)]
    assert problems == []
    return table


def test_some_runs_are_those_of_plain_loops():
    table = compared(range(15))
    assert table.runs == 15
    recorders = {r.name for r in held()}
    seen = {name.removesuffix("_*") for _, name in table.values}
    assert {f"effective_{n}" if f"effective_{n}" in seen else n for n in recorders} <= seen


@pytest.mark.long
def test_runs_are_those_of_plain_loops():
    table = compared(range(NUMBERS))
    print(table)
    assert table.runs == NUMBERS
    assert table.refused < NUMBERS / 20


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_what_is_off_is_noticed(dtype):
    values = np.array([[1.0, 2.0], [np.nan, 0.0]])
    off = 1 + 3 * TOLERANCE[dtype]
    for found, expected in (
        (values * off, Expected(values)),
        (values + np.array([0, off - 1]), Expected(np.nan_to_num(values), (1,))),
        (np.nan_to_num(values), Expected(values)),
        (np.where(values == 0, 1e-300, values), Expected(values)),
        (np.log10([off]), Expected(np.array([0.0]), kind="log10")),
        (np.array([-np.inf]), Expected(np.array([-300.0]), kind="log10")),
        (np.array([[0.1, -1.0]]), Expected(np.array([[0.1, -np.inf]]), kind="exponents")),
        (np.array([[0.1, -np.inf]]), Expected(np.array([[0.1, -30.0]]), kind="exponents")),
        (np.array([[0.1, -31.0]]), Expected(np.array([[0.1, -30.0]]), kind="exponents")),
        (np.array([2.0, 1.0]), Expected(np.array([[2.0 * off, 1.0]]), kind="spectrum")),
        (np.array([2.0, np.nan]), Expected(np.array([[2.0, 1.0]]), kind="spectrum")),
    ):
        assert not deviation(found, expected, dtype) <= TOLERANCE[dtype], expected
