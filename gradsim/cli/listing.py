"""``gradsim list``: the plugins that are installed."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.output import console, table

if TYPE_CHECKING:
    from gradsim.contracts.registry import Catalogue

FAMILIES = ("cells", "mitigations", "tasks", "recorders", "optimizers", "schedules", "initializers")


@click.command("list")
@click.argument("family", required=False, type=click.Choice(FAMILIES))
def command(family: str | None) -> None:
    """List the plugins: all, or those of one family.

    Plugins that could not be loaded are listed with the reason.

    \b
    Examples:
      gradsim list
      gradsim list cells
    """
    found = quiet_catalogue()
    out = console()
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
    if not recorder.twin:
        return ""
    return f"effective_{recorder.name}" + ("" if recorder.raw else " only")


def summary(cls: type) -> str:
    """The first line of a docstring."""
    return (cls.__doc__ or "").strip().split("\n")[0]
