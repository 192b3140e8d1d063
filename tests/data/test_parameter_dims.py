"""The axes of parameters have names, and rows that belong to gates have coordinates."""

from __future__ import annotations

import gradsim
from gradsim_cells import LSTM
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


def test_rows_and_columns_and_gates(inputs):
    ds = gradsim.simulate(LSTM(2, 3), inputs, record=["gradient"], rng=0)
    assert ds.gradient_W.dims == ("W_row", "W_column")
    assert ds.gradient_b.dims == ("b_row",)
    assert list(ds.W_unit.values) == [0, 1, 2] * 4
    forget = ds.gradient_U.sel(U_row=ds.U_gate == "forget")
    assert (forget.values == ds.gradient_U.values[3:6]).all()


def test_parameters_that_are_not_recorded_leave_nothing(inputs):
    ds = gradsim.simulate(LSTM(2, 3), inputs, record=["state"], rng=0)
    assert "W_gate" not in ds.coords


def test_the_trained_parameters_have_them_too():
    ds = gradsim.train(LSTM(2, 3), Adding(length=20), updates=1, batch=2, optimizer=SGD(), rng=0)
    assert list(ds.trained_b.b_gate.values[::3]) == ["input", "forget", "candidate", "output"]
