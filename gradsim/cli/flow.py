"""What the command of every verb does: choose, check, plan or launch, draw, summarise."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.options import chosen

if TYPE_CHECKING:
    from xarray import Dataset

    from gradsim.experiment.kinds import Experiment, Kind


def perform(kind: Kind, *, out: Path | None, dry_run: bool, **options: Any) -> None:
    """Run an experiment of this kind; `options`: of its parameters, and how it is launched."""
    from gradsim.cli.folders import check_folders, check_room, run_folders
    from gradsim.experiment.keys import written

    numbers = {"experiment", "changes", *written(kind.parameters)} & options.keys()
    how = {name: value for name, value in options.items() if name not in numbers}
    runs = chosen(kind, **{name: options[name] for name in numbers})
    folders = run_folders(runs, out)
    prepared = [run.prepare(tried=True) for run in runs]
    check_folders(folders, how["force"], how.get("resume", False))
    check_room(folders, prepared, how["memory"])
    if dry_run:
        from gradsim.cli.plan import show_plans

        show_plans(runs, prepared, how["threads"])
        click.echo(f"Would write {', '.join(map(str, folders))}")
        return
    data = _execute(runs, folders, **how)
    if not how.get("as_json"):
        from gradsim.cli.summary import summarise

        summarise(kind.name, data, dict(zip((run.label for run in runs), folders, strict=True)))
    if len(data) < len(runs):
        raise click.exceptions.Exit(1)


def _execute(runs: list[Experiment], folders: list[Path], **how: Any) -> dict[str, Dataset]:
    """Run one after the other; one that diverges does not keep the others from it."""
    from gradsim.cli.figures import draw_together
    from gradsim.cli.following import follow
    from gradsim.errors import DivergedError

    data = {}
    for run, folder in zip(runs, folders, strict=True):
        try:
            data[run.label] = follow(run.label, run.prepare(), folder, **how)
        except DivergedError as error:
            click.echo(f"Error: {run.name}: {error}", err=True)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"{error}{_all_of(runs)}" if str(error) else "") from None
    if len(data) > 1:
        draw_together(runs[0].kind.name, folders[0], data)
    return data


def _all_of(runs: list[Experiment]) -> str:
    if len(runs) == 1:
        return ""
    arguments = [a for a in sys.argv[1:] if a not in ("--force", "--resume")]
    return f"; with all runs: {shlex.join(['gradsim', *arguments, '--resume'])}"
