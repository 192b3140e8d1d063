"""The memory that the sequences of a task take, before they are drawn."""

from __future__ import annotations

import numpy as np
import psutil

from gradsim.contracts.episodes import sampled
from gradsim.contracts.task import FiniteTask, Task
from gradsim.errors import BudgetError
from gradsim.machine.disk import human

FEW = 256
"""Sequences that are drawn without a look at the memory that they take."""


def refuse_large(task: Task, batch: int) -> None:
    """Refuse a batch that cannot be drawn, and draw one sequence at most to find out.

    Raises
    ------
    InputError
        There are fewer sequences.
    BudgetError
        It takes more memory than is available.
    """
    if isinstance(task, FiniteTask):
        task.available("train", batch)
    if batch <= FEW:
        return
    one = sampled(task, np.random.default_rng(0), 1)
    arrays = (one.inputs, one.inputs, one.targets, one.weights)  # inputs twice: the run has a copy
    needed, available = batch * sum(np.asarray(a).nbytes for a in arrays), psutil.virtual_memory().available
    if needed > available:
        raise BudgetError(
            f"{batch} sequences of {task!r} take {human(needed)} of memory and {human(available)} is "
            "available; use a smaller batch or shorter sequences"
        )
