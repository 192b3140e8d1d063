"""Flags and ``--set`` applied to the tables of an experiment, before anything is validated."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from gradsim.errors import InputError, short, shown
from gradsim.experiment.draft import changed

_LISTS = ("mitigations", "cells", "compare", "in_order")


_NAMED = 4
"""As many of the cells that are compared are in the name of the folder."""


def override(tables: Mapping[str, Any], flags: Mapping[str, Any], *, default: bool) -> dict[str, Any]:
    """The tables with the flags that were given in place of what they had.

    With another cell or task the default experiment is another one: it loses its comparison, other cells lose
    what they are matched in, and it takes its name from both.
    """
    given = {k: _flat(v) if isinstance(v, tuple) else v for k, v in flags.items() if v not in (None, ())}
    found = changed(tables, given)
    if default and given.keys() & {"cell", "cells", "task"}:
        found.pop("compare", None)
        if "cells" in given and "match" not in given:
            found.pop("match", None)
        named = [found["task"], *([found["cell"]] if "cell" in found else found["cells"][:_NAMED])]
        found["name"] = "-".join(Path(table["name"]).stem for table in named)
    return found


def _flat(values: tuple[Any, ...]) -> list[Any]:
    """What a repeatable option was given, one or several at a time."""
    return [one for value in values for one in (value if isinstance(value, list) else [value])]


def assign_all(tables: dict[str, Any], changes: Iterable[str]) -> Iterator[str]:
    """Apply all changes that can be; what is wrong with each of the others."""
    for change in changes:
        try:
            assign(tables, change)
        except InputError as error:
            yield str(error)


def assign(tables: dict[str, Any], change: str) -> None:
    """Apply ``a.b=value``. In a list, b is an index or the name (or label) of one of its tables."""
    key, equals, text = change.partition("=")
    *path, last = key.strip().split(".")
    if not equals or not all((*path, last)):
        raise InputError(f"--set {short(change)}: should be KEY=VALUE, for example cell.hidden_size=64")
    place: Any = tables
    for part in path:
        place = _within(place, part, change)
    if isinstance(place, list):
        place[_index(place, last, change)] = parsed(text)
    elif isinstance(place, dict):
        place[last] = parsed(text)
    else:
        raise InputError(f"--set {short(change)}: {'.'.join(path)} is not a table (it is {shown(place)})")


def _within(place: Any, part: str, change: str) -> Any:
    if isinstance(place, list):
        return place[_index(place, part, change)]
    if not isinstance(place, dict):
        raise InputError(f"--set {short(change)}: there is no table {part} in {shown(place)}")
    return place.setdefault(part, [] if part in _LISTS else {})


def _index(place: list[Any], part: str, change: str) -> int:
    names = [_name(table) if isinstance(table, dict) else None for table in place]
    if names.count(part) > 1:
        which = " and ".join(str(i) for i, name in enumerate(names) if name == part)
        raise InputError(f"--set {short(change)}: {which} are all called {part}; give the number instead")
    if part in names:
        return names.index(part)
    if part in (numbers := [*map(str, range(len(place)))]):
        return numbers.index(part)
    known = ", ".join(f"{i} ({n})" if n else str(i) for i, n in enumerate(names))
    raise InputError(
        f"--set {short(change)}: there is no entry {part!r}, {f'only {known}' if known else 'and no other'}"
    )


def _name(table: dict[str, Any]) -> Any:
    """What a table is called: its label, or the name of the plugin without the file that it is in."""
    if "label" in table or not isinstance(table.get("name"), str):
        return table.get("label")
    return Path(table["name"].rpartition(":")[2]).stem


_WORDS = re.compile(r"\[\s*[\w.+-]+(\s*,\s*[\w.+-]+)*\s*\]")
"""A list of words without quotes, which shells take away."""


def parsed(text: str) -> Any:
    """The value that TOML reads in a text, or a list of words; the text itself where it is neither."""
    try:
        tables = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        return [parsed(word.strip()) for word in text[1:-1].split(",")] if _WORDS.fullmatch(text) else text
    value = tables.get("value")
    # Dates are not used in experiments, and more than one key is not a value.
    return value if len(tables) == 1 and isinstance(value, bool | int | float | str | list | dict) else text
