"""All checks of a mitigation."""

from __future__ import annotations

from gradsim.contracts.cell import Cell
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.task import Task
from gradsim.testing import common
from gradsim.testing.kit import Checks, Suite
from gradsim.testing.mitigation import effects, hooks
from gradsim.testing.mitigation.bench import MitigationBench

CHECKS = Checks([*common.CHECKS, *hooks.CHECKS, *effects.CHECKS])


def suite(mitigation: Mitigation, cell: Cell | None = None, task: Task | None = None) -> Suite:
    """The checks of one mitigation, tried on `cell`; `task` draws step data."""
    return Suite(MitigationBench(mitigation, cell, task), CHECKS)
