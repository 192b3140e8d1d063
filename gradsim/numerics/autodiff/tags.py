"""Where derivatives are closed, always or when somebody asks: for arrays of any library."""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from autograd.extend import notrace_primitive

_unboxed = notrace_primitive(lambda x: x)
_open: ContextVar[tuple[Collection[str], list[str]] | None] = ContextVar("open", default=None)
_values: ContextVar[dict[str, list[Any]] | None] = ContextVar("values", default=None)


def through(x: Any, path: str) -> Any:
    """`x`, tagged as what a path of the step goes through; see `Cell.paths`."""
    if (values := _values.get()) is not None:
        values.setdefault(path, []).append(x)
    asked = _open.get()
    if asked is None:
        return x
    names, met = asked
    if path not in met:
        met.append(path)
    return x if path in names else detach(x)


def open_paths() -> tuple[str, ...] | None:
    """The paths that are open; None if nobody asked."""
    asked = _open.get()
    return None if asked is None else tuple(asked[0])


@contextmanager
def opened(paths: Collection[str]) -> Iterator[list[str]]:
    """Close all other paths for derivatives made within; gives the list of those that are met."""
    met: list[str] = []
    token = _open.set((paths, met))
    try:
        yield met
    finally:
        _open.reset(token)


@contextmanager
def tagged() -> Iterator[dict[str, list[Any]]]:
    """Gives what is tagged in steps that are taken within: by path, in the order in which it is met."""
    values: dict[str, list[Any]] = {}
    token = _values.set(values)
    try:
        yield values
    finally:
        _values.reset(token)


def detach(x: Any) -> Any:
    """`x`, as a constant: no derivative goes through it."""
    match type(x).__module__.partition(".")[0]:
        case "jax" | "jaxlib":
            return sys.modules["jax"].lax.stop_gradient(x)
        case "torch":
            return x.detach()
    return _unboxed(x)


def surrogate(value: Any, smooth: Any) -> Any:
    """The numbers of `value` with the derivative of `smooth`, for steps that are `exact = False`.

    A spike, for example: ``surrogate(xp.astype(v > 1, v.dtype), sigmoid(v - 1))``.
    """
    return detach(value) + (smooth - detach(smooth))
