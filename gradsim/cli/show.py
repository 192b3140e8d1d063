"""``gradsim show``: what a plugin is, what it takes, where it comes from."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, get_type_hints

import click

from gradsim.cli.output import console, shown, table


@click.command("show")
@click.argument("name")
def command(name: str) -> None:
    """Show a plugin: equations, parameters, reference.

    NAME is that of any plugin in `gradsim list`.

    \b
    Examples:
      gradsim show lstm
      gradsim show clip_norm
    """
    for family, cls, source in _named(name):
        click.echo(f"{name} ({family.removesuffix('s')}, from {source})\n")
        click.echo(inspect.cleandoc(cls.__doc__ or "It has no docstring."))
        if family == "tasks" and not cls.readout:
            click.echo("\nWithout a readout: the loss looks at the output of the cell itself.")
        _show_parameters(cls, family)


def _named(name: str) -> list[tuple[str, Any, str]]:
    """(family, class, distribution) of every plugin of this name."""
    from gradsim.contracts import registry
    from gradsim.errors import unknown

    found = registry.catalogue()
    plain = name.removeprefix("effective_") if name in registry.recorders() else name
    families = [family for family, classes in found.plugins.items() if plain in classes]
    if not families:
        raise unknown("name", name, {n for classes in found.plugins.values() for n in classes})
    return [(f, found.plugins[f][plain], found.distributions[f"{f}/{plain}"]) for f in families]


def _show_parameters(cls: Any, family: str) -> None:
    if family == "recorders":  # asked for by name only
        return
    rows = list(_parameters(cls))
    made = table("Parameters", "name", "type", "default")
    for row in rows:
        made.add_row(*row)
    console().print()
    console().print(made if rows else "It has no parameters.")


def _parameters(cls: Any) -> Iterator[tuple[str, str, str]]:
    from gradsim.cli.hints import described

    hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls):
        yield field.name, described(hints[field.name]), _default(field)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return shown(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return shown(field.default_factory())
    return "required"
