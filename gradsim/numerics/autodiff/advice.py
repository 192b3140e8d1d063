"""What in the source of a `step` keeps a library from seeing it, and what to write instead."""

from __future__ import annotations

import ast
import inspect
import math
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import autograd.numpy as anp
import numpy as np

from gradsim.numerics.autodiff.standard import cure, is_standard

_OUTSIDE = (np, math, anp)


@dataclass(frozen=True)
class Use:
    """A function of an array namespace that a step calls: as written, and its line in the file."""

    call: str
    name: str
    line: int
    through_xp: bool

    @property
    def cure(self) -> str | None:
        """What to write in its place, if anything."""
        if self.through_xp and is_standard(self.name):
            return None
        return f"use {cure(self.name)} in place of {self.call} (line {self.line})"


def advice(step: Callable[..., Any]) -> str:
    """What to change in a step, as the end of a sentence; empty if all its functions are those of `xp`."""
    cures = dict.fromkeys(use.cure for use in uses(step) if use.cure)
    return "".join(f"; {each}" for each in cures)


def uses(step: Callable[..., Any]) -> list[Use]:
    """What a step calls, with the functions and methods that it calls and the steps of cells inside."""
    found: list[Use] = []
    seen: set[Any] = set()
    _collect(step, getattr(step, "__self__", None), found, seen)
    return found


def _collect(function: Any, owner: Any, found: list[Use], seen: set[Any]) -> None:
    code = getattr(function, "__func__", function)
    if not hasattr(code, "__code__") or _foreign(code) or (code, id(owner)) in seen:
        return
    seen.add((code, id(owner)))
    try:
        lines, first = inspect.getsourcelines(code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
    except (OSError, TypeError, SyntaxError):  # there is no source to read
        return
    for node in ast.walk(tree):
        match node:
            case ast.Attribute() if use := _use(node, code.__globals__, first - 1):
                found.append(use)
            case ast.Name(id=name) if inspect.isfunction(called := code.__globals__.get(name)):
                _collect(called, owner, found, seen)
            case ast.Attribute(value=ast.Name(id="self") | ast.Call(func=ast.Name(id="super")), attr=name):
                for cls in type(owner).__mro__:
                    _collect(vars(cls).get(name), owner, found, seen)
    for inner in getattr(owner, "__dict__", {}).values():
        if inspect.ismethod(step := getattr(inner, "step", None)):
            _collect(step, inner, found, seen)


def _foreign(function: Any) -> bool:
    return str(function.__module__).partition(".")[0] in ("numpy", "autograd", "gradsim")


def _use(node: ast.Attribute, names: dict[str, Any], above: int) -> Use | None:
    """A function of xp, of NumPy or of `math`, perhaps one level down as in xp.linalg.inv."""
    call = ast.unparse(node)
    first, _, name = call.partition(".")
    through_xp = first == "xp"
    if not name.replace(".", "").isidentifier() or not (through_xp or _is_outside(names.get(first))):
        return None
    return None if name in ("linalg", "fft") else Use(call, name, node.lineno + above, through_xp)


def _is_outside(value: Any) -> bool:
    return any(value is module for module in _OUTSIDE)
