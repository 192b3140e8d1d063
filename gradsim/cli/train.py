"""``gradsim train``: train as an experiment says, save it, draw it."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.options import chosen, folder_options, following_options, training_options

if TYPE_CHECKING:
    from xarray import Dataset

    from gradsim.experiment.kinds import TrainingExperiment
    from gradsim.training.prepared import PreparedTraining


@click.command("train")
@training_options
@folder_options
@click.option("--resume", is_flag=True, help="Go on with the runs of this experiment that are not complete.")
@following_options
def command(
    out: Path | None,
    force: bool,
    resume: bool,
    dry_run: bool,
    threads: int | None,
    as_json: bool,
    live: float | None,
    allow_changed: bool,
    checkpoint_seconds: float,
    **options: Any,
) -> None:
    """Train a cell on a task, save it and draw it.

    How gradients travel through time is recorded as it learns. Without an experiment an LSTM learns the
    adding problem, next to an Elman network that does not.
    Each run is saved in a folder: run.json, data.zarr (for xarray.open_zarr or gradsim.open_run) and
    figures as PNG and SVG. What was interrupted goes on with `gradsim resume FOLDER`, and ends with the
    numbers of a run that never was.

    \b
    Examples:
      gradsim train
      gradsim train --cell gru --optimizer adam --set optimizer.learning_rate=0.01 --updates 500
      gradsim train experiment.toml --live 10

    \b
    An experiment file; those of `gradsim run`, and:
      updates = 2000                 # or epochs, of a task with a limited number of sequences
      batch = 32                     # sequences of each update
      [task]
      name = "adding"
      [cell]
      name = "gru"
      [optimizer]
      name = "adam"                  # see `gradsim list optimizers`
      learning_rate = 0.005
      schedule = { name = "cosine" } # see `gradsim list schedules`
      [record]                       # recorders of a simulation, as the network learns
      every = 100
      recorders = ["product_norm"]
      [validate]
      every = 100
      [stop]
      score_above = 0.95             # or loss_below, patience
    """
    from gradsim.cli.folders import check_room, run_folders, would_write
    from gradsim.experiment.kinds import TrainingExperiment

    runs = chosen(TrainingExperiment, **options)
    folders = run_folders(runs, out)
    trainings = [run.prepare() for run in runs]
    _check_folders(folders, force, resume)
    check_room(folders, [sum(t.sizes().values()) for t in trainings])
    if dry_run:
        from gradsim.cli.training_plan import show_plans

        show_plans(runs, trainings, threads)
        would_write(folders)
        return
    data = _execute(
        runs,
        folders,
        trainings,
        force=force,
        resume=resume,
        threads=threads,
        as_json=as_json,
        live=live,
        allow_changed=allow_changed,
        checkpoint_seconds=checkpoint_seconds,
    )
    if not as_json:
        from gradsim.cli.training_summary import summarise

        summarise(data, {run.label: folder for run, folder in zip(runs, folders, strict=True)})
    if len(data) < len(runs):
        raise click.exceptions.Exit(1)


def _check_folders(folders: list[Path], force: bool, resume: bool) -> None:
    from gradsim.data.store import check_folder

    if force and resume:
        raise click.UsageError("--resume goes on with what --force would replace: give one of them")
    for folder in folders:
        if not (resume and (folder / "run.json").exists()):
            check_folder(folder, force)


def _execute(
    runs: list[TrainingExperiment],
    folders: list[Path],
    trainings: list[PreparedTraining],
    **how: Any,
) -> dict[str, Dataset]:
    """Train one after the other; one that diverges does not keep the others from it."""
    from gradsim.cli.following import follow
    from gradsim.cli.training_figures import draw_together
    from gradsim.errors import DivergedError

    data = {}
    for run, folder, training in zip(runs, folders, trainings, strict=True):
        try:
            data[run.label] = follow(run.label, training, folder, **how)
        except DivergedError as error:
            click.echo(f"Error: {run.name}: {error}", err=True)
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(f"{error}{_all_of(runs)}") from None
    if len(data) > 1:
        draw_together(folders[0], data)
    return data


def _all_of(runs: list[TrainingExperiment]) -> str:
    if len(runs) == 1:
        return ""
    arguments = [a for a in sys.argv[1:] if a not in ("--force", "--resume")]
    return f"; with all runs: {shlex.join(['gradsim', *arguments, '--resume'])}"
