"""Plugins in modules and files that are not installed."""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import sys
import traceback
from collections.abc import Iterator
from importlib import util
from importlib.machinery import ModuleSpec
from itertools import chain, count
from pathlib import Path
from types import ModuleType
from typing import Any

from gradsim.contracts.plugin import Plugin
from gradsim.contracts.wrapper import Wrapper
from gradsim.errors import InputError, PluginError

_folders = set[str]()
"""Those of the files that have been imported."""


def module_of(target: str) -> ModuleType | None:
    """The module of a .py file or of a dotted name, or None where there is none.

    Raises
    ------
    InputError
        There is no such file.
    PluginError
        It cannot be imported.
    """
    if Path(target).suffix == ".py":
        if not Path(target).is_file():
            raise InputError(f"there is no file {target}")
        path = Path(target).resolve()
        _refuse_namesakes(target, path)
        folder = str(path.parent)  # for modules beside it, as with `python my_cell.py`
        _folders.add(folder)
        sys.path.insert(0, folder)
        try:
            return _imported(target, util.spec_from_file_location(_free_name(path), path))
        finally:
            sys.path.remove(folder)
            if folder not in sys.path:  # for what it imports later, after all that is installed
                sys.path.append(folder)
    sys.path.insert(0, "")  # a module in the current folder, as with `python -m`
    try:
        spec = _spec(target)
        return _imported(target, spec) if spec and spec.origin else None
    finally:
        sys.path.remove("")


def _free_name(path: Path) -> str:
    """What a file is called among the modules: by its stem, unless that is another module."""
    names = chain([path.stem], (f"{path.stem}_{i}" for i in count(2)))
    return next(n for n in names if n not in sys.stdlib_module_names and _is_free(n, path))


def _is_free(name: str, path: Path) -> bool:
    return name not in sys.modules or getattr(sys.modules[name], "__file__", None) == str(path)


def _refuse_namesakes(target: str, path: Path) -> None:
    """Raise where a file would be given the module beside another file for the one beside it."""
    for name, beside in imports_beside(path).items():
        other = getattr(sys.modules.get(name), "__file__", None) or str(beside)
        places = map(str, Path(other).parents[:2])  # of a module, and of a package
        if other != str(beside) and not _folders.isdisjoint(places):
            raise PluginError(f"{target} imports {beside}, but {name} is {other} already; rename one of them")


def imports_beside(path: Path) -> dict[str, Path]:
    """The modules and packages in its folder that a file imports, by name."""
    found: dict[str, Path] = {}
    try:
        nodes = list(ast.walk(ast.parse(path.read_bytes())))
    except (SyntaxError, ValueError):  # which is told when it is imported
        return found
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            place = path.parent / name.replace(".", "/")
            files = (place / "__init__.py", place.parent / f"{place.name}.py")
            if file := next((f for f in files if f.is_file() and f != path), None):
                found[name] = file
    return found


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
        with contextlib.redirect_stdout(sys.stderr):  # where JSON may be read from stdout
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
