"""An experiment as a TOML file: its mistakes all at once, and the runs that it stands for."""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from gradsim.errors import InputError
from gradsim.experiment.draft import drafts
from gradsim.experiment.keys import mistakes_in, written
from gradsim.experiment.kinds import KINDS, SIMULATION, Experiment, Kind, marks


class ExperimentError(InputError):
    """An experiment is wrong: the message has one line for each mistake."""


def read_toml(path: Path | None = None, kind: Kind = SIMULATION) -> dict[str, Any]:
    """The tables of a file; those of the built-in experiment of a kind without one."""
    if path is None:
        return tomllib.loads(resources.files("gradsim.experiment").joinpath(kind.default).read_text())
    text, wrong = "", ""
    try:
        text = path.read_text(encoding="utf-8-sig")
        return tomllib.loads(text)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        wrong = str(error)
    except RecursionError:
        wrong = "there are too many brackets within brackets"
    except ValueError:  # what Python says of integers of more than 4300 digits
        before, *_ = re.split(r"\w{4300}", text, maxsplit=1)
        wrong = f"an integer is too long (at line {before.count(chr(10)) + 1})"
    raise InputError(f"{path} is not valid TOML: {wrong}")


def build(
    tables: Mapping[str, Any],
    kind: Kind = SIMULATION,
    *,
    name: str,
    source: str = "experiment",
    before: Sequence[str] = (),
) -> list[Experiment]:
    """All runs of an experiment, the main one first.

    Parameters
    ----------
    tables
        As read from TOML.
    kind
        What they should describe.
    name
        Of the main run, where the tables have none.
    source
        What an error calls them.
    before
        Mistakes that were found on the way to the tables.

    Raises
    ------
    ExperimentError
        With every mistake: unknown keys, plugins and parameters, wrong types and values. Or the tables
        describe another kind of experiment.
    """
    _refuse_other_kind(tables, kind, source)
    mistakes = [*before, *mistakes_in(tables, kind.parameters)]
    made = list(drafts(tables, kind.parameters, mistakes))
    parts = [kind.arguments(draft) for draft in made]
    labels = [draft.label for draft in made]
    mistakes += [
        f"compare: label {n!r} is used twice" for n, used in Counter(labels).items() if n and used > 1
    ]
    if mistakes:
        count = "1 mistake" if len(mistakes) == 1 else f"{len(mistakes)} mistakes"
        raise ExperimentError("\n  ".join([f"{source}: {count}", *mistakes]))
    return list(_named(kind, tables.get("name", name), labels, parts))


def _refuse_other_kind(tables: Mapping[str, Any], kind: Kind, source: str) -> None:
    for other in KINDS:
        found = [key for key in marks(other) if key in tables and key not in written(kind.parameters)]
        if found:
            what = f"{source} describes a {other.name}: {', '.join(found)}"
            raise ExperimentError(f"{what}. Use `gradsim {other.command}`, or leave that out")
    if kind is not SIMULATION and not tables.keys() & set(marks(kind)):
        needed = ", ".join(key for key in marks(kind) if written(kind.parameters)[key].required)
        raise ExperimentError(
            f"{source} describes no {kind.name}, but a simulation. Use `gradsim run`, or add {needed} "
            f"(see `gradsim {kind.command} --help`)"
        )


def _named(
    kind: Kind, name: str, labels: Sequence[Any], parts: Sequence[dict[str, Any]]
) -> Iterator[Experiment]:
    cell = parts[0]["cell"].name if "cell" in parts[0] else name
    yield Experiment(name, labels[0] or (cell if cell not in labels else name), kind, parts[0])
    for label, part in zip(labels[1:], parts[1:], strict=True):
        yield Experiment(f"{name}-{label}", label, kind, part)
