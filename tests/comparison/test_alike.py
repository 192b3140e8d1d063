"""What runs of different cells have in common."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import Recorder, Variable
from gradsim.comparison.alike import Alike
from gradsim.contracts.pieces import Forward
from gradsim.errors import InputError
from gradsim.simulation import prepare
from gradsim_cells import GRU, LSTM, Elman


class Sizes(Recorder):
    """A variable whose dims, names or positions are those that a cell of so many units has."""

    name = "sizes"
    stream = Forward

    def __init__(self, what):
        self.what = what

    def dims(self, problem):
        n = problem.cell.hidden_size
        return {"own": {"names": [f"u{i}" for i in range(n)], "places": np.arange(3) * n}[self.what]}

    def variables(self, problem):
        return (Variable("sizes", ("own",), "numbers"),)

    def compute(self, piece, carry=None):
        return {}


def alike(what, *cells):
    return Alike({str(i): prepare(c, np.ones((4, 1, 1)), record=[Sizes(what)]) for i, c in enumerate(cells)})


def test_names_are_joined_in_the_order_of_the_cells():
    found = alike("names", Elman(1, 2), GRU(1, 4), LSTM(1, 3))
    assert list(found.joined["own"]) == ["u0", "u1", "u2", "u3"]
    assert found.sizes()["own"] == 4
    assert list(found.coordinates(["own"])["own"][1]) == ["u0", "u1", "u2", "u3"]


def test_a_dim_of_one_length_with_other_coordinates_is_another_one():
    with pytest.raises(InputError, match=r"its dim own is not the same in both. Leave 'sizes'"):
        _ = alike("places", Elman(1, 2), Elman(1, 3)).variables


def test_a_dim_that_is_the_same_stays():
    found = alike("places", Elman(1, 2), GRU(1, 2))
    assert [v.dims for v in found.variables] == [("own",)]
    assert list(found.coordinates(["own"])["own"][1]) == [0, 2, 4]
