"""``gradsim list``: the plugins that are installed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.output import console, table

if TYPE_CHECKING:
    from gradsim.contracts.registry import Catalogue

FAMILIES = (
    *("cells", "mitigations", "tasks", "recorders", "optimizers", "schedules", "initializers", "layouts"),
)


@click.command("list")
@click.argument("family", required=False, type=click.Choice(FAMILIES))
@click.option(
    "--long", "long", is_flag=True, help="Of cells: sizes, derivatives as measured now, references."
)
def command(family: str | None, long: bool) -> None:
    """List the plugins: all, or those of one family.

    Plugins that could not be loaded are listed with the reason.

    \b
    Examples:
      gradsim list
      gradsim list cells
      gradsim list cells --long
    """
    if long and family != "cells":
        raise click.UsageError("--long tells more of cells only: gradsim list cells --long")
    found = quiet_catalogue()
    out = console()
    if long:
        from gradsim.cli.cells import long_table

        made, notes = long_table(found.plugins["cells"])
        out.print(made)
        for note in notes:
            out.print(note)
    else:
        for name in [family] if family else FAMILIES:
            out.print(_table(found, name))
    for problem in found.problems:
        out.print(f"not loaded: {problem}")


def quiet_catalogue() -> Catalogue:
    """What is installed, without a warning for what is not: the list says it itself."""
    from gradsim.contracts import registry
    from gradsim.errors import PluginWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PluginWarning)
        return registry.catalogue()


def _table(found: Catalogue, family: str) -> Any:
    twins = ("effective twin",) if family == "recorders" else ()
    made = table(family.capitalize(), "name", "summary", *twins, "from")
    for name, cls in sorted(found.plugins[family].items()):
        twin = [_twin(cls)] if twins else []
        made.add_row(name, summary(cls), *twin, found.distributions[f"{family}/{name}"])
    return made


def _twin(recorder: Any) -> str:
    if not recorder.twin or recorder.both:
        return ""
    return f"effective_{recorder.name}" + ("" if recorder.raw else " only")


def summary(cls: type) -> str:
    """The first line of a docstring."""
    return (cls.__doc__ or "").strip().split("\n")[0]
