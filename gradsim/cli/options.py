"""The options of commands; those of a verb are read from the list of its parameters."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_args, get_origin

import click

from gradsim.run.parameters import Parameter, bare, listed

if TYPE_CHECKING:
    from gradsim.experiment.kinds import Experiment, Kind

Command = Callable[..., Any]
Option = Callable[[Command], Command]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_EXPERIMENT = click.argument("experiment", required=False, type=_FILE, metavar="[EXPERIMENT.toml]")
_SET = click.option(
    "--set",
    "changes",
    multiple=True,
    metavar="KEY=VALUE",
    help="Change one key, e.g. cell.hidden_size=64 or mitigations.0.max_norm=2; repeatable.",
)


def named(given: str) -> dict[str, str]:
    """The table that NAME stands for, FILE.py or FILE.py:CLASS, or NAME:PATH of what reads a file."""
    name, colon, path = given.partition(":")
    return {"name": name, "path": path} if colon and not name.endswith(".py") else {"name": given}


def _several(given: str) -> list[dict[str, str]]:
    return [named(one) for one in given.split(",")]


def _together(given: str) -> list[dict[str, str]]:
    """Mitigations that act together, with + between, in order."""
    if "," in given:
        raise click.BadParameter(
            f"{given!r}: what acts together has + between; to run with each by itself use gradsim compare"
        )
    return [named(one) for one in given.split("+")]


def _in_order(given: str) -> list[dict[str, Any]]:
    """Choices with commas between, each of mitigations that act together, with + between."""
    choices = [[named(one) for one in choice.split("+")] for choice in given.split(",")]
    return [
        c[0] if len(c) == 1 else {"label": "+".join(m["name"] for m in c), "in_order": c} for c in choices
    ]


_NAMES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Cell": ("The cell, with its default parameters; change them with --set.", named),
    "Task": (
        "The task, with its default parameters; for one that reads a file NAME:PATH, as csv:series.csv.",
        named,
    ),
    "Optimizer": ("The optimizer, with its default parameters.", named),
    "Mitigation": (
        "Apply this one, instead of those of the experiment; several with + between, in the order in which "
        "they act, or repeatable.",
        _together,
    ),
    "Recorder": ("Record this, instead of what the experiment says; repeatable.", str),
}
"""What is said of plugins that a name stands for, and what it stands for; whatever else is made of tables has
no option, only --set."""

_COMPARED: dict[str, tuple[str, Callable[[str], Any]]] = {
    "Cell": (
        "Compare this one, with its default parameters; several with commas between, or repeatable.",
        _several,
    ),
    "Mitigation": (
        "Run each cell with this one, too; several with commas between, or repeatable. What acts together "
        "has + between, in order.",
        _in_order,
    ),
}
"""The same of plugins that are compared."""


_FOLDERS = (
    click.option(
        "--out",
        type=click.Path(path_type=Path),
        metavar="DIR",
        help="Run folder, instead of runs/<name>; compared runs go beside it as DIR-<label>.",
    ),
    click.option("--dry-run", is_flag=True, help="Check everything and print the plan, but write nothing."),
)
_FOLLOWING = (
    click.option(
        "--live",
        type=click.FloatRange(0, min_open=True),
        metavar="SECONDS",
        help="Draw how far it is, every so many seconds, in live.png of the run folder.",
    ),
    click.option("--json", "as_json", is_flag=True, help="Say what happens on stdout, a JSON object a line."),
)


def _with(options: Iterable[Option]) -> Option:
    def give(command: Command) -> Command:
        return functools.reduce(lambda made, option: option(made), reversed([*options]), command)

    return give


def experiment_options(cls: type) -> Option:
    """What decides the numbers: a file, the parameters of a verb, and --set for all that is in tables."""
    return _with([_EXPERIMENT, *_numbers(cls), _SET])


def launch_options(cls: type) -> Option:
    """How it is launched: the parameters of a launch."""
    return _with(map(_how, (entry for entry in listed(cls).values() if entry.key)))


folder_options = _with(_FOLDERS)
following_options = _with(_FOLLOWING)


def _numbers(cls: type) -> Iterator[Option]:
    """Their values go into tables, and are validated there."""
    for entry in listed(cls).values():
        made_of = entry.of.rpartition(":")[2]
        if made_of in _NAMES:
            said, kind = _NAMES[made_of]
            if "cells" in listed(cls):
                said, kind = _COMPARED.get(made_of, (said, kind))
            flags, many = [f"--{entry.key.removesuffix('s')}"], entry.many
            if kind in (_several, _together, _in_order):
                flags += [f"--{entry.key}"]
            yield click.option(*flags, entry.key, type=kind, multiple=many, metavar="NAME", help=said)
        elif entry.key and not entry.of:
            yield _option(entry, _plain(entry.written), None)


def _how(entry: Parameter) -> Option:
    kind, limits = _plain(entry.written), list(_limits(entry.written))
    ranges: dict[Any, Any] = {int: click.IntRange, float: click.FloatRange}
    if limits and kind in ranges:
        low, is_open = limits[0]
        kind = ranges[kind](low, min_open=is_open)
    return _option(entry, kind, entry.default)


def _option(entry: Parameter, kind: Any, default: Any) -> Option:
    flag, text = entry.key.replace("_", "-"), re.split(r"(?<=\.)\s", entry.doc)[0]
    if kind is bool and default is False:
        return click.option(f"--{flag}", is_flag=True, help=text)
    if kind is bool:
        return click.option(f"--{flag}/--no-{flag}", entry.key, default=None, help=text)
    shown = default is not None
    return click.option(f"--{flag}", type=kind, default=default, show_default=shown, help=text)


def _plain(hint: Any) -> Any:
    """The type of one value, for click."""
    kinds = [kind for kind in (get_args(bare(hint)) or (bare(hint),)) if kind is not type(None)]
    if int in kinds and any(get_origin(kind) is Literal for kind in kinds):
        return _WholeOrWord()
    return str if get_origin(kinds[0]) is Literal or get_origin(hint) is Literal else kinds[0]


class _WholeOrWord(click.ParamType["int | str"]):
    """A whole number, or a word that is validated where it goes."""

    name = "integer|text"

    def convert(self, value: Any, param: Any, ctx: Any) -> int | str:
        return int(value) if re.fullmatch(r"[+-]?\d+", value) else str(value)


def _limits(hint: Any) -> Iterator[tuple[float, bool]]:
    """(lower limit, whether it is left out) in an annotation."""
    if get_origin(hint) is Annotated:
        for limit in hint.__metadata__:
            yield (limit.gt, True) if hasattr(limit, "gt") else (limit.ge, False)
    for part in get_args(hint):
        yield from _limits(part)


def chosen(
    kind: Kind, *, experiment: Path | None, changes: tuple[str, ...], **flags: Any
) -> list[Experiment]:
    """The runs of the experiment file, or of the built-in one, with the flags applied."""
    from gradsim.cli.overrides import assign_all, override
    from gradsim.experiment.build import build, read_toml

    tables = override(read_toml(experiment, kind), flags, default=experiment is None)
    wrong = [*assign_all(tables, changes)]
    source = "the command line" if experiment is None else str(experiment)
    name = "run" if experiment is None else experiment.stem
    return build(tables, kind, name=name, source=source, before=wrong)
