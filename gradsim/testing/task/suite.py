"""All checks of a task."""

from __future__ import annotations

from gradsim.contracts.task import Task
from gradsim.testing import common
from gradsim.testing.kit import Checks, Suite
from gradsim.testing.task import episodes, losses
from gradsim.testing.task.bench import TaskBench

CHECKS = Checks([*common.CHECKS, *episodes.CHECKS, *losses.CHECKS])


def suite(task: Task) -> Suite:
    """The checks of one task."""
    return Suite(TaskBench(task), CHECKS)
