"""Where runs go, and whether they fit together, asked before the first of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradsim.data.folder import check_folder
from gradsim.errors import BudgetError
from gradsim.machine.disk import free_disk, human

if TYPE_CHECKING:
    from gradsim.experiment.kinds import Experiment
    from gradsim.run.launch import Prepared


def run_folders(runs: Sequence[Experiment], out: Path | None) -> list[Path]:
    """The folder of each run."""
    first = Path("runs", runs[0].name) if out is None else out
    if first.name in ("", ".."):
        first = first.resolve()
    return [first, *(first.with_name(f"{first.name}-{run.label}") for run in runs[1:])]


def check_folders(folders: Sequence[Path], force: bool, resume: bool) -> None:
    """Refuse folders that cannot be written into, or gone on with."""
    if force and resume:
        raise click.UsageError("--resume goes on with what --force would replace: give one of them")
    for folder in folders:
        if not (resume and (folder / "run.json").exists()):
            check_folder(folder, force)


def check_room(folders: Sequence[Path], prepared: Sequence[Prepared], memory: float | None) -> None:
    """Refuse runs that do not fit into memory, or on the disk together."""
    free = free_disk(folders[0])
    for one in prepared:
        one.refuse_beyond(memory, free)
    total = sum(sum(one.sizes().values()) for one in prepared)
    if total > free:
        raise BudgetError(f"these runs write {human(total)} together and {human(free)} of disk is free")
