"""Plugins in modules and files that are not installed."""

from __future__ import annotations

import dataclasses
import inspect
import sys
import traceback
from collections.abc import Iterator
from importlib import util
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from gradsim.contracts.plugin import Plugin
from gradsim.contracts.wrapper import Wrapper
from gradsim.errors import InputError, PluginError


def module_of(target: str) -> ModuleType | None:
    """The module of a .py file or of a dotted name, or None where there is none.

    Raises
    ------
    InputError
        There is no such file.
    PluginError
        It cannot be imported.
    """
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


def plugins_in(module: ModuleType) -> Iterator[Any]:
    """The classes of plugins that a module defines."""
    for cls in vars(module).values():
        if not inspect.isclass(cls) or not f"{cls.__module__}.".startswith(f"{module.__name__}."):
            continue
        # A wrapper without defaults belongs to the mitigation that makes it.
        plugin = issubclass(cls, Plugin) and not (issubclass(cls, Wrapper) and needs(cls, "cell"))
        # A class without a name from which others come is what they share.
        shared = getattr(cls, "name", None) is None and bool(cls.__subclasses__())
        if plugin and not shared:
            yield cls


def needs(cls: Any, field: str) -> bool:
    """Whether a plugin cannot be made without this field."""
    found = getattr(cls, "__dataclass_fields__", {}).get(field)
    missing = dataclasses.MISSING
    return found is not None and found.default is missing and found.default_factory is missing
