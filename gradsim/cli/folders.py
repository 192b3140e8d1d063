"""Where runs go, and whether they fit together, asked before the first of them starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradsim.errors import BudgetError
from gradsim.machine.disk import free_disk, human

if TYPE_CHECKING:
    from gradsim.experiment.kinds import Experiment


def run_folders(runs: Sequence[Experiment], out: Path | None) -> list[Path]:
    """The folder of each run."""
    first = Path("runs", runs[0].name) if out is None else out
    if first.name in ("", ".."):
        first = first.resolve()
    return [first, *(first.with_name(f"{first.name}-{run.label}") for run in runs[1:])]


def check_room(folders: Sequence[Path], sizes: Sequence[int]) -> None:
    """Refuse runs that together do not fit on the disk."""
    free, total = free_disk(folders[0]), sum(sizes)
    if total > free:
        raise BudgetError(f"these runs write {human(total)} together and {human(free)} of disk is free")


def would_write(folders: Sequence[Path]) -> None:
    """The last line of a dry run."""
    click.echo(f"Would write {', '.join(map(str, folders))}")
