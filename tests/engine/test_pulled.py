"""What the pull of a cell's own gives, in other shapes than those of its steps."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from helpers import refused

import gradsim
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import DerivativeError, PluginError
from gradsim.testing import check_cell
from gradsim_cells import Elman

CHANGES = {
    "too few": lambda x: x[1:],
    "a number": lambda x: 1.0,
    "wrong": lambda x: 1.01 * x,
    "narrow": lambda x: x.astype("float32"),
    "a list": lambda x: x.tolist(),
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
        if cell.where == "adjoints":
            adjoints = CHANGES[cell.how](pulled.adjoints)
            return SimpleNamespace(
                adjoints=adjoints, gradient=pulled.gradient, contributions=pulled.contributions
            )
        given = {"contributions": pulled.contributions, "gradient": pulled.gradient}

        def changed():
            found = honest()
            if cell.how == "missing":
                return {n: g for n, g in found.items() if n != cell.param}
            return found | {cell.param: CHANGES[cell.how](found[cell.param])}

        honest, given[cell.where] = given[cell.where], changed
        return SimpleNamespace(adjoints=pulled.adjoints, **given)


CELLS = {
    "gradient() of pull() gives shape (2, 2), float64 for 'W', where shape (3, 2), float64 is": Misshapen(
        2, 3
    ),
    "gradient() of pull() gives a float for 'W', where": Misshapen(2, 3, how="a number"),
    "gradient() of pull() gives shape (2, 3), float64 for 'W'": Misshapen(2, 3, how="transposed"),
    "gradient() of pull() gives ['U', 'b'] for the parameters ['U', 'W', 'b']": Misshapen(
        2, 3, how="missing"
    ),
    "gradient() of pull() gives shape (3, 2), float32 for 'W', where": Misshapen(2, 3, how="narrow"),
    "gradient() of pull() gives a list for 'W', where": Misshapen(2, 3, how="a list"),
    "pull() through 6 steps gives adjoints of shape (7, 3, 3), float32, where shape (k + 1, 3, 3), float64": (
        Misshapen(2, 3, where="adjoints", how="narrow")
    ),
    "pull() through 6 steps gives adjoints of a list, where": Misshapen(2, 3, where="adjoints", how="a list"),
    "pull() through 6 steps gives adjoints of a float, where": (
        Misshapen(2, 3, where="adjoints", how="a number")
    ),
    "contributions() of pull() through 2 steps gives shape (1, 3), float64 for 'b', where": (
        Misshapen(2, 3, where="contributions", param="b")
    ),
    "contributions() of pull() through 2 steps gives shape (2, 2, 3), float64 for 'W', where": (
        Misshapen(2, 3, where="contributions", how="transposed")
    ),
}


@pytest.mark.parametrize(("message", "cell"), CELLS.items(), ids=list(CELLS))
def test_other_shapes_are_named(message, cell, inputs):
    record = ["contribution"] if cell.where == "contributions" else ["gradient"]
    with refused(PluginError, "Misshapen(", message):
        gradsim.simulate(cell, inputs[:6], record=record)
    with pytest.raises(AssertionError, match=rf"Misshapen\(.*{cell.where}"):
        check_cell(cell)


@pytest.mark.parametrize("where", ["gradient", "contributions"])
@pytest.mark.parametrize("steps", [1, 2, 6])
def test_other_numbers_are_named_whatever_is_recorded(where, steps, inputs):
    cell = Misshapen(2, 3, where=where, how="wrong")
    with refused(DerivativeError, f"{where}()['W'] of unroll().pull() differ by", "mend Misshapen.unroll"):
        gradsim.simulate(cell, inputs[:steps], record=["adjoint"])
