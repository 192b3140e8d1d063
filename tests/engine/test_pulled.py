"""What the pull of a cell's own gives, in other shapes than those of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from helpers import refused

import gradsim
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import PluginError
from gradsim.testing import check_cell
from gradsim_cells import Elman

CHANGES = {
    "too few": lambda x: x[1:],
    "a number": lambda x: 1.0,
    "transposed": lambda x: x.swapaxes(-1, -2),
}


@dataclass(frozen=True, eq=False)
class Misshapen(Elman):
    """All is right but the shape of one thing that its pull gives."""

    name = "misshapen"
    where: str = "gradient"
    param: str = "W"
    how: str = "too few"

    def unroll(self, params, state, inputs, step_data, parallel):
        taken = super().unroll(params, state, inputs, step_data, parallel)
        return MisshapenSteps(self, params, taken.states, inputs, step_data)


class MisshapenSteps(Trajectory):
    def pull(self, incoming, direct):
        pulled, cell = super().pull(incoming, direct), self.cell
        given = {"contributions": pulled.contributions, "gradient": pulled.gradient}

        def changed():
            found = honest()
            if cell.how == "missing":
                return {n: g for n, g in found.items() if n != cell.param}
            return found | {cell.param: CHANGES[cell.how](found[cell.param])}

        honest, given[cell.where] = given[cell.where], changed
        return SimpleNamespace(adjoints=pulled.adjoints, **given)


CELLS = {
    "gradient() of pull() gives shape (2, 2) for 'W', where shape (3, 2) is needed": Misshapen(2, 3),
    "gradient() of pull() gives a float for 'W', where": Misshapen(2, 3, how="a number"),
    "gradient() of pull() gives shape (2, 3) for 'W'": Misshapen(2, 3, how="transposed"),
    "gradient() of pull() gives ['U', 'b'] for the parameters ['U', 'W', 'b']": Misshapen(
        2, 3, how="missing"
    ),
    "contributions() of pull() through 6 steps gives shape (5, 3) for 'b', where shape (6, 3) is needed": (
        Misshapen(2, 3, where="contributions", param="b")
    ),
    "contributions() of pull() through 6 steps gives shape (6, 2, 3) for 'W', where shape (6, 3, 2)": (
        Misshapen(2, 3, where="contributions", how="transposed")
    ),
}


@pytest.mark.parametrize(("message", "cell"), CELLS.items(), ids=list(CELLS))
def test_other_shapes_are_named(message, cell, inputs):
    record = ["contribution"] if cell.where == "contributions" else ["gradient"]
    with refused(PluginError, "Misshapen(", message):
        gradsim.simulate(cell, inputs[:6], record=record)
    with pytest.raises(AssertionError, match=rf"Misshapen\(.*{cell.where}\(\) of pull\(\)"):
        check_cell(cell)
