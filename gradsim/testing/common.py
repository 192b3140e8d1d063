"""The checks that every plugin gets."""

from __future__ import annotations

import dataclasses
import re
import warnings
from typing import Any

import numpy as np

from gradsim.contracts import registry
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.torch_cell import TorchModule
from gradsim.testing.kit import Bench, Checks, label, names, same

CHECKS = Checks()


@CHECKS()
def name_and_repr(bench: Bench) -> None:
    """The name is lower case and nobody else's; the repr rebuilds the plugin."""
    _named(bench)
    if not _holds_object(bench):
        _rebuilt(bench)


@CHECKS()
def frozen_dataclass(bench: Bench) -> None:
    """A frozen dataclass with eq=False, all of whose annotations are fields."""
    cls = type(bench.plugin)
    options: Any = getattr(cls, "__dataclass_params__", None)
    fix = "decorate the class with @dataclass(frozen=True, eq=False)"
    bench.expect(options is not None, f"{cls.__name__} is no dataclass; {fix}")
    bench.expect(options.frozen, f"{cls.__name__} is not frozen; {fix}")
    bench.expect(
        cls.__eq__ is object.__eq__, f"{cls.__name__} compares by value, which fails with arrays; {fix}"
    )
    if "__dataclass_fields__" not in vars(cls):
        left = set(vars(cls).get("__annotations__", {}))
        bench.expect(not left, f"{cls.__name__}: {names(left)} would be no parameter; {fix}")


@CHECKS(applies=lambda bench: _may_default(bench))
def constructs_with_defaults(bench: Bench) -> None:
    """Every parameter has a default, so that ``gradsim run --cell NAME`` works."""
    cls = type(bench.plugin)
    missing = [
        f.name
        for f in dataclasses.fields(cls)  # type: ignore[arg-type]
        if f.init and f.default is f.default_factory is dataclasses.MISSING
    ]
    bench.expect(not missing, f"{names(missing)} of {cls.__name__} should have a default")
    cls()


def _may_default(bench: Bench) -> bool:
    """Something around another plugin cannot: that comes from a mitigation; nor what reads a file by path."""
    reads = isinstance(_fields(bench.plugin).get("path"), str)
    return not (bench.plugin.inside or reads or _holds_object(bench))


def _holds_object(bench: Bench) -> bool:
    """Whether it is made of an object, which cannot be written down."""
    return isinstance(bench.plugin, TorchModule)


def _fields(plugin: Plugin) -> dict[str, Any]:
    return {f.name: getattr(plugin, f.name) for f in dataclasses.fields(plugin)}  # type: ignore[arg-type]


def _named(bench: Bench) -> None:
    name = getattr(bench.plugin, "name", None)
    bench.expect(
        isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9_]*", name),
        f"name is {name!r}; it should be lower case, words joined by _, such as 'my_cell'",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of other packages that do not load
        installed = registry.catalogue()
    other = installed.plugins[bench.family].get(name)  # type: ignore[arg-type]
    mine = type(bench.plugin)
    if other is not None and (other.__module__, other.__qualname__) != (mine.__module__, mine.__qualname__):
        bench.fail(
            f"the name {name!r} is taken by {other.__qualname__} of "
            f"{installed.distributions[f'{bench.family}/{name}']}; rename it"
        )


def _rebuilt(bench: Bench) -> None:
    plugin = bench.plugin
    text = repr(plugin)
    classes = {type(p) for p in _inside(plugin)}
    known = {cls.__name__: cls for cls in classes} | {"array": np.array, "nan": np.nan, "inf": np.inf}
    for cls in classes:  # a class made inside a function or class shows where
        text = text.replace(f"{cls.__qualname__}(", f"{cls.__name__}(")
    fix = "keep the repr of the dataclass, and make every parameter a field"
    try:
        again = eval(text, known)
    except Exception as error:
        bench.fail(f"its repr, {text}, does not rebuild it ({type(error).__name__}: {error}); {fix}")
    bench.expect(
        type(again) is type(plugin) and _alike(again, plugin), f"its repr rebuilds {label(again)}; {fix}"
    )


def _alike(one: Any, other: Any) -> bool:
    if isinstance(one, Plugin):
        a, b = _fields(one), _fields(other)
        return type(one) is type(other) and a.keys() == b.keys() and all(_alike(a[k], b[k]) for k in a)
    if isinstance(one, tuple | list):
        return len(one) == len(other) and all(map(_alike, one, other))
    return same(one, other) if isinstance(one, np.ndarray) else one == other


def _inside(plugin: Plugin) -> list[Plugin]:
    """The plugin and those among its parameters, at any depth."""
    return [plugin, *(p for inner in plugin.inside for p in _inside(inner))]
