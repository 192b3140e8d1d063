"""``gradsim check``: the conformance kit on a plugin."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import traceback
from collections.abc import Callable, Iterable
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import click

from gradsim.errors import GradsimError, InputError, PluginError, unknown


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

    families = registry.catalogue().plugins.values()
    found = [classes[target] for classes in families if target in classes]
    if found:
        return found
    module = _module(target)
    if module is None and Path(target).exists():
        raise InputError(f"{target} should be a .py file, or the name of a plugin or module")
    if module is None:
        raise unknown("plugin or module", target, {name for classes in families for name in classes})
    defined = list(_defined_in(module))
    found = [cls for cls in defined if not inspect.isabstract(cls)]
    if not found:
        lacking = [f"{cls.__name__} lacks {', '.join(sorted(cls.__abstractmethods__))}" for cls in defined]
        raise InputError(f"{target} defines no plugin{': ' * bool(lacking)}{'; '.join(lacking)}")
    return found


def _module(target: str) -> ModuleType | None:
    path = Path(target)
    if path.suffix == ".py":
        if not path.is_file():
            raise InputError(f"there is no file {path}")
        sys.path.insert(0, str(path.parent.resolve()))  # modules beside it, as with `python my_cell.py`
        return _imported(target, util.spec_from_file_location(path.stem, path))
    sys.path.insert(0, "")  # a module in the current folder, as with `python -m`
    try:
        spec = _spec(target)
        return _imported(target, spec) if spec and spec.origin else None
    finally:
        sys.path.remove("")


def _spec(target: str) -> ModuleSpec | None:
    """Where a module is; the packages that it is in are imported to find out."""
    if not all(map(str.isidentifier, target.split("."))):
        return None
    try:
        return util.find_spec(target)
    except ValueError:  # what runs, "__main__", is nowhere
        return None
    except (Exception, SystemExit) as error:
        if isinstance(error, ModuleNotFoundError) and f"{target}.".startswith(f"{error.name}."):
            return None
        raise _not_imported(target, error) from error


def _imported(target: str, spec: ModuleSpec | None) -> ModuleType:
    assert spec is not None
    assert spec.loader is not None
    if spec.name in sys.modules and not target.endswith(".py"):
        return sys.modules[spec.name]
    module = sys.modules[spec.name] = util.module_from_spec(spec)  # dataclasses look it up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever is wrong in it
        del sys.modules[spec.name]
        raise _not_imported(target, error) from error
    return module


def _not_imported(target: str, error: BaseException) -> PluginError:
    where = traceback.extract_tb(error.__traceback__)[-1]
    place = "" if where.filename.startswith("<") else f" ({where.filename}, line {where.lineno})"
    return PluginError(f"{target} cannot be imported: {type(error).__name__}: {error}{place}")


def _defined_in(module: ModuleType) -> Iterable[Any]:
    from gradsim import Wrapper
    from gradsim.contracts.registry import FAMILIES

    for cls in vars(module).values():
        if not inspect.isclass(cls) or not f"{cls.__module__}.".startswith(f"{module.__name__}."):
            continue
        # A wrapper without defaults belongs to the mitigation that makes it.
        plugin = issubclass(cls, tuple(FAMILIES.values())) and not (
            issubclass(cls, Wrapper) and _needs(cls, "cell")
        )
        # A class without a name from which others come is what they share.
        shared = getattr(cls, "name", None) is None and bool(cls.__subclasses__())
        if plugin and not shared:
            yield cls


def _passes(cls: Any) -> bool:
    from gradsim.testing import checks_of

    if _needs(cls, "path"):
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


def _needs(cls: Any, field: str) -> bool:
    """Whether it cannot be made without this field."""
    found = getattr(cls, "__dataclass_fields__", {}).get(field)
    missing = dataclasses.MISSING
    return found is not None and found.default is missing and found.default_factory is missing


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
