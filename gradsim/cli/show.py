"""``gradsim show``: what a plugin is, what it takes, where it comes from."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator
from typing import Any, get_type_hints

import click

from gradsim.cli.options import named
from gradsim.cli.output import console, shown, table


@click.command("show")
@click.argument("name")
def command(name: str) -> None:
    """Show a plugin: equations, parameters, reference.

    NAME is that of any plugin in `gradsim list`, or what other commands take in its place: a file with
    plugins, a class in it, or NAME:PATH of what is read from a file.

    \b
    Examples:
      gradsim show lstm
      gradsim show clip_norm
      gradsim show my_cell.py
      gradsim show my_plugins.py:MyMitigation
      gradsim show torch:model.safetensors
    """
    given = named(name)
    if "path" in given:
        _show(*_read(**given))
    else:
        for title, family, source, cls in _classes(name):
            _show(title, family, source, cls)


def _classes(name: str) -> list[tuple[str, str, str, Any]]:
    """(title, family, distribution or file, class) of every plugin of this name, or in this file."""
    from gradsim.contracts import registry
    from gradsim.errors import InputError, unknown

    inside = registry.in_file(name)
    if inside is not None:
        if not inside:
            raise InputError(f"{name} defines no plugin")
        file = name.rpartition(":")[0] or name
        return [(getattr(c, "name", c.__name__), registry.family_of(c), file, c) for c in inside]
    found = registry.catalogue()
    plain = name.removeprefix("effective_") if name in registry.recorders() else name
    families = [family for family, classes in found.plugins.items() if plain in classes]
    if not families:
        raise unknown("name", name, {n for classes in found.plugins.values() for n in classes})
    return [(name, f, found.distributions[f"{f}/{plain}"], found.plugins[f][plain]) for f in families]


def _read(name: str, path: str) -> tuple[str, str, str, Any]:
    """(title, family, where it comes from, plugin) of what is read from a file: a model, or a task."""
    from gradsim.contracts import registry
    from gradsim.loading.models import load_weights

    (_, family, source, cls), *_ = _classes(name)
    if family == "layouts":
        cell = load_weights(path, name).cell
        return cell.name, "cells", f"{path}, by the layout {name}", cell
    return name, family, source, registry.with_parameters(cls, {"path": path})


def _show(title: str, family: str, source: str, plugin: Any) -> None:
    """A class with its defaults, or a plugin with its values."""
    made = not isinstance(plugin, type)
    cls = type(plugin) if made else plugin
    click.echo(f"{title} ({family.removesuffix('s')}, from {source})\n")
    doc = cls.__doc__ or ""
    made_up = doc.startswith(f"{cls.__name__}(")  # by dataclasses
    click.echo("It has no docstring." if made_up or not doc else inspect.cleandoc(doc))
    if family == "tasks" and not cls.readout:
        click.echo("\nWithout a readout: the loss looks at the output of the cell itself.")
    if family == "recorders":  # asked for by name only
        return
    rows = table("Parameters", "name", "type", "value" if made else "default")
    for row in _parameters(cls, plugin if made else None):
        rows.add_row(*row)
    console().print()
    console().print(rows if rows.row_count else "It has no parameters.")


def _parameters(cls: Any, made: Any) -> Iterator[tuple[str, str, str]]:
    from gradsim.cli.hints import described
    from gradsim.contracts.plugin import annotated

    with annotated(cls):
        hints = get_type_hints(cls, include_extras=True)
    for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
        value = _default(field) if made is None else shown(getattr(made, field.name))
        yield field.name, described(hints[field.name]), value


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return shown(field.default)
    if field.default_factory is not dataclasses.MISSING:
        return shown(field.default_factory())
    return "required"
