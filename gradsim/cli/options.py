"""The options by which `run` and `plan` choose an experiment."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from gradsim.experiment import Experiment

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_OPTIONS = (
    click.argument("experiment", required=False, type=_FILE, metavar="[EXPERIMENT.toml]"),
    click.option(
        "--cell", metavar="NAME", help="The cell, with its default parameters; change them with --set."
    ),
    click.option("--task", metavar="NAME", help="The task, with its default parameters."),
    click.option(
        "--mitigation",
        "mitigations",
        multiple=True,
        metavar="NAME",
        help="Apply this one, in this order, instead of those of the experiment; repeatable.",
    ),
    click.option(
        "--record",
        multiple=True,
        metavar="NAME",
        help="Record this, instead of what the experiment says; repeatable.",
    ),
    click.option(
        "--set",
        "changes",
        multiple=True,
        metavar="KEY=VALUE",
        help="Change one key, e.g. cell.hidden_size=64 or mitigations.0.max_norm=2; repeatable.",
    ),
    click.option("--seed", type=int, help="Seed of all random numbers."),
    click.option("--batch", type=int, help="Number of sequences that the task draws."),
    click.option("--dtype", help="float64 or float32."),
)


def experiment_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command the options that `chosen` takes."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen(experiment: Path | None, changes: tuple[str, ...], **flags: Any) -> list[Experiment]:
    """The runs of the experiment file, or of the default one, with the flags applied."""
    from gradsim.cli.overrides import assign, override
    from gradsim.experiment import build, read_toml

    tables = override(read_toml(experiment), flags, default=experiment is None)
    for change in changes:
        assign(tables, change)
    source = "the command line" if experiment is None else str(experiment)
    return build(tables, name="run" if experiment is None else experiment.stem, source=source)
