"""The options that several commands have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from gradsim.experiment.kinds import Experiment

    E = TypeVar("E", bound=Experiment)

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_WORLD = (
    click.argument("experiment", required=False, type=_FILE, metavar="[EXPERIMENT.toml]"),
    click.option(
        "--cell", metavar="NAME", help="The cell, with its default parameters; change them with --set."
    ),
    click.option(
        "--task",
        metavar="NAME",
        help="The task, with its default parameters; for one that reads a file NAME:PATH, as csv:series.csv.",
    ),
    click.option(
        "--mitigation",
        "mitigations",
        multiple=True,
        metavar="NAME",
        help="Apply this one, in this order, instead of those of the experiment; repeatable.",
    ),
)
_RECORD = click.option(
    "--record",
    multiple=True,
    metavar="NAME",
    help="Record this, instead of what the experiment says; repeatable.",
)
_TRAINING = (
    click.option("--optimizer", metavar="NAME", help="The optimizer, with its default parameters."),
    click.option("--updates", type=int, help="How long: so many updates of the parameters."),
    click.option("--epochs", type=int, help="How long: so many passes over a finite task."),
)
_NUMBERS = (
    click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one key, e.g. cell.hidden_size=64 or mitigations.0.max_norm=2; repeatable.",
    ),
    click.option("--seed", type=int, help="Seed of all random numbers."),
    click.option("--batch", type=int, help="Number of sequences side by side."),
    click.option("--dtype", help="float64 or float32."),
)
threads_option = click.option(
    "--threads", type=click.IntRange(1), help="All cores unless given; no number depends on it."
)
_FOLDERS = (
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Run folder, instead of runs/<name>; compared runs go beside it as DIR-<label>.",
    ),
    click.option("--force", is_flag=True, help="Replace runs that are there already."),
    click.option("--dry-run", is_flag=True, help="Check everything and print the plan, but write nothing."),
    threads_option,
)
_FOLLOWING = (
    click.option("--allow-changed", is_flag=True, help="Go on though the experiment or code has changed."),
    click.option(
        "--checkpoint-seconds",
        type=click.FloatRange(0),
        default=30.0,
        show_default=True,
        help="Keep what is needed to go on at least so often.",
    ),
    click.option(
        "--live",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="Draw how far it is, every so many seconds, in live.png of the run folder.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Say what happens on stdout, a JSON object a line."),
)

Command = Callable[..., Any]


def _with(options: Sequence[Callable[[Command], Command]]) -> Callable[[Command], Command]:
    def give(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return give


simulation_options = _with([*_WORLD, _RECORD, *_NUMBERS])
training_options = _with([*_WORLD, *_TRAINING, *_NUMBERS])
folder_options = _with(_FOLDERS)
following_options = _with(_FOLLOWING)


def chosen(kind: type[E], *, experiment: Path | None, changes: tuple[str, ...], **flags: Any) -> list[E]:
    """The runs of the experiment file, or of the built-in one, with the flags applied."""
    from gradsim.cli.overrides import assign, override
    from gradsim.experiment.build import build, read_toml

    tables = override(read_toml(experiment, kind), flags, default=experiment is None)
    for change in changes:
        assign(tables, change)
    source = "the command line" if experiment is None else str(experiment)
    return build(tables, kind, name="run" if experiment is None else experiment.stem, source=source)
