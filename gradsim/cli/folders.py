"""Where runs go, and whether they fit together, asked before the first of them starts."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradsim.data.store import nearest_folder
from gradsim.errors import BudgetError
from gradsim.plan.plan import human

if TYPE_CHECKING:
    from gradsim.experiment.kinds import Experiment


def run_folders(runs: Sequence[Experiment], out: Path | None) -> list[Path]:
    """The folder of each run."""
    first = Path("runs", runs[0].name) if out is None else out
    if first.name in ("", ".."):
        first = first.resolve()
    return [first, *(first.with_name(f"{first.name}-{run.label}") for run in runs[1:])]


def free_room(folders: Sequence[Path]) -> int:
    """The bytes of disk that are free there."""
    return shutil.disk_usage(nearest_folder(folders[0])).free


def check_room(folders: Sequence[Path], sizes: Sequence[int]) -> None:
    """Refuse runs that together do not fit on the disk."""
    free, total = free_room(folders), sum(sizes)
    if total > free:
        raise BudgetError(f"these runs write {human(total)} together and {human(free)} of disk is free")


def would_write(folders: Sequence[Path]) -> None:
    """The last line of a dry run."""
    click.echo(f"Would write {', '.join(map(str, folders))}")
