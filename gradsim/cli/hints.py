"""The types of parameters in words."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, Literal, Union, get_args, get_origin


def described(hint: Any) -> str:
    """For example "int, > 0", or "one of 'tanh', 'relu'"."""
    origin, inside = get_origin(hint), get_args(hint)
    if origin is Annotated:
        limits = ", ".join(_limits(inside[1:]))
        return described(inside[0]) + (f", {limits}" if limits else "")
    if origin is Literal:
        return "one of " + ", ".join(repr(value) for value in inside)
    if origin in (Union, types.UnionType):
        return " or ".join(described(part) for part in inside)
    if origin in (tuple, list):
        return f"list of {described(inside[0])}"
    return "none" if hint is type(None) else getattr(hint, "__name__", str(hint))


def _limits(annotations: Iterable[Any]) -> Iterable[str]:
    for limit in annotations:
        for attribute, sign in (("gt", ">"), ("ge", ">="), ("lt", "<"), ("le", "<=")):
            bound = getattr(limit, attribute, None)
            if bound is not None:
                yield f"{sign} {bound}"
