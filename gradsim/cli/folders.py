"""Whether runs fit together, asked before the first of them starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from gradsim.data.store import nearest_folder
from gradsim.engine.plan import Plan, human
from gradsim.errors import BudgetError


def check_disk(folders: Sequence[Path], plans: Sequence[Plan]) -> None:
    """Refuse runs that together do not fit on the disk, or one by one not in memory."""
    free = shutil.disk_usage(nearest_folder(folders[0])).free
    for plan in plans:
        plan.refuse_beyond(None, free)
    total = sum(plan.data_bytes for plan in plans)
    if total > free:
        raise BudgetError(f"these runs write {human(total)} together and {human(free)} of disk is free")
