"""All checks of a cell."""

from __future__ import annotations

from gradsim.contracts.cell import Cell
from gradsim.contracts.task import Task
from gradsim.testing import common
from gradsim.testing.cell import derivatives, outputs, paths, second_derivatives, steps, unrolls
from gradsim.testing.cell.bench import CellBench
from gradsim.testing.kit import Checks, Suite

CHECKS = Checks(
    [
        *common.CHECKS,
        *steps.CHECKS,
        *outputs.CHECKS,
        *unrolls.CHECKS,
        *derivatives.CHECKS,
        *second_derivatives.CHECKS,
        *paths.CHECKS,
    ]
)


def suite(cell: Cell, task: Task | None = None) -> Suite:
    """The checks of one cell; `task` draws the step data that it neither has nor draws."""
    return Suite(CellBench(cell, task), CHECKS)
