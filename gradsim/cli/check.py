"""``gradsim check``: the conformance kit on a plugin."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from gradsim.errors import GradsimError, InputError, unknown


@click.command("check")
@click.argument("target", metavar="NAME_OR_MODULE")
@click.pass_context
def command(ctx: click.Context, target: str) -> None:
    """Check that a plugin keeps its contract.

    NAME_OR_MODULE is an installed plugin, or a module or .py file with plugins in it. They are made
    with their default parameters.

    \b
    Examples:
      gradsim check lstm
      gradsim check my_cell.py
    """
    failed = [cls for cls in _classes(target) if not _passes(cls)]
    if failed:
        click.echo(f"Failed: {', '.join(cls.__name__ for cls in failed)}", err=True)
        ctx.exit(1)


def _classes(target: str) -> list[Any]:
    from gradsim.contracts import registry
    from gradsim.contracts.modules import module_of, plugins_in

    families = registry.catalogue().plugins.values()
    found = [classes[target] for classes in families if target in classes]
    if found:
        return found
    module = module_of(target)
    if module is None and Path(target).exists():
        raise InputError(f"{target} should be a .py file, or the name of a plugin or module")
    if module is None:
        raise unknown("plugin or module", target, {name for classes in families for name in classes})
    defined = list(plugins_in(module))
    found = [cls for cls in defined if not inspect.isabstract(cls)]
    if not found:
        lacking = [f"{cls.__name__} lacks {', '.join(sorted(cls.__abstractmethods__))}" for cls in defined]
        raise InputError(f"{target} defines no plugin{': ' * bool(lacking)}{'; '.join(lacking)}")
    return found


def _passes(cls: Any) -> bool:
    from gradsim.contracts.modules import needs
    from gradsim.testing import checks_of

    if needs(cls, "path"):
        click.echo(f"{cls.__name__}\n  not made  it reads a file: gradsim.testing.checks_of makes the checks")
        return True
    try:
        plugin = cls()
        title, checks = repr(plugin), checks_of(plugin)
    except (Exception, SystemExit) as error:  # whatever a plugin does wrong is its failure, not ours
        what = f"{type(error).__name__}: " * (not isinstance(error, TypeError | GradsimError))
        click.echo(f"{cls.__name__}\n  FAILED    made with its defaults: {what}{error}")
        return False
    click.echo(title)
    return all([_keeps(name, check) for name, check in checks])


def _keeps(name: str, check: Callable[[], None]) -> bool:
    from unittest import SkipTest

    try:
        check()
    except SkipTest as reason:  # the check that it rests on has failed
        click.echo(f"  not made  {name}: {reason}")
    except (Exception, SystemExit) as error:
        click.echo(f"  FAILED    {name}: {str(error) or type(error).__name__}")
        return False
    else:
        click.echo(f"  ok        {name}")
    return True
