"""What a step does with the arrays of other libraries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from gradsim.testing.cell.bench import CellBench
from gradsim.testing.cell.libraries import LIBRARIES, installed, why_not
from gradsim_cells import LSTM, Elman


@dataclass(frozen=True, eq=False)
class ByNumPy(Elman):
    """It calls NumPy by its name."""

    name = "by_numpy"

    def step(self, params, state, inputs, xp):
        return np.tanh(state)


@dataclass(frozen=True, eq=False)
class Other(Elman):
    """It knows where it runs."""

    name = "other"

    def step(self, params, state, inputs, xp):
        return state if xp is np else 2 * state


@pytest.mark.parametrize("name", LIBRARIES)
def test_right_and_wrong_steps(name):
    xp = installed()[name]

    def said(cell):
        return why_not(cell.step, CellBench(cell).run, name, xp)

    assert said(LSTM(2, 3)) is None
    assert said(Other(2, 3)) == f"gives other numbers with {name} than with NumPy; compute with xp alone"
    assert name in said(ByNumPy(2, 3))


def test_what_is_not_installed_is_left_out(monkeypatch):
    monkeypatch.setitem(LIBRARIES, "JAX", "no_such_module")
    assert list(installed()) == ["torch", "array-api-strict"]
