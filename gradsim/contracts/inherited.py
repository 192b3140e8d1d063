"""Which derivatives a class inherits: those that were written for its own step, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any

WITH_STEP = (
    *("step_jacobian", "state_vjp", "params_vjp", "bilinear_vjp", "jacobian_vjp", "path_jacobians"),
    *("unroll", "saved_size"),
)
"""What goes with a step, and not with that of a subclass."""


def outlived(cls: type, contract: type, names: tuple[str, ...] = WITH_STEP) -> Iterator[tuple[str, Any]]:
    """What a class inherits for another step than its own, and what `contract` has in its place.

    A step is another one if it, or a method or constant that it makes use of, has been replaced since.
    """
    own = cls.__mro__[: cls.__mro__.index(contract)]
    used: set[str] | None = None
    for name in names:
        writer = next((c for c in own if name in vars(c)), None)
        if writer is None or vars(writer)[name] is vars(contract)[name]:
            continue
        home = _home(writer, own, contract)
        if home is None or home is cls:
            continue
        used = _used(cls) if used is None else used
        asked = {"step"} if _is_template(home) else used
        if any(_is_replaced(n, cls, home) for n in asked):
            yield name, _instead(name, cls, own, contract)


def _home(writer: type, own: tuple[type, ...], contract: type) -> type | None:
    """The class whose step it was written for: that of the writer, or the first one below that has a step."""
    for c in own[own.index(writer) :: -1]:
        step = _found("step", c)
        if issubclass(c, writer) and not getattr(step, "__isabstractmethod__", False):
            return c
    return None


def _is_template(home: type) -> bool:
    """Whether its derivatives are made of what subclasses fill in, as those of a wrapper are of `mix`."""
    return home.__module__.startswith("gradsim.contracts.")


def _instead(name: str, cls: type, own: tuple[type, ...], contract: type) -> Any:
    fitting = (c for c in own if _is_template(c) and name in vars(c) and not _is_replaced("step", cls, c))
    return vars(next(fitting, contract))[name]


def _is_replaced(name: str, cls: type, home: type) -> bool:
    now, then = _found(name, cls), _found(name, home)
    if now is then or then is None or getattr(then, "__isabstractmethod__", False):
        return False
    # Another default of a parameter is a value that the derivatives know.
    return name not in getattr(home, "__dataclass_fields__", {}) or hasattr(now, "__get__")


def _found(name: str, cls: type) -> Any:
    return next((vars(c)[name] for c in cls.__mro__ if name in vars(c)), None)


def _used(cls: type) -> set[str]:
    """The names of all members that the step makes use of, by way of others too, in whatever class."""
    used, left = set[str](), ["step"]
    seen = set[CodeType]()
    while left:
        name = left.pop()
        if name in used:
            continue
        used.add(name)
        for function in (f for c in cls.__mro__ if name in vars(c) for f in _functions(vars(c)[name])):
            left += (n for n in _names(function, seen) if _decides(n) and _found(n, cls) is not None)
    return used


def _decides(name: str) -> bool:
    """Whether a member of this name may have to do with the numbers of a step."""
    return name not in ("name", "draw") and not name.startswith("__")


def _functions(member: Any) -> Iterator[FunctionType]:
    """What runs when a member of a class is used."""
    for inner in (member, *(getattr(member, a, None) for a in ("__func__", "fget", "func", "__wrapped__"))):
        if isinstance(inner, FunctionType):
            yield inner


def _names(function: FunctionType, seen: set[CodeType]) -> Iterator[str]:
    """The names in the code of a function, and of the functions beside it that it calls."""
    for code in _codes(function.__code__):
        if code in seen:
            continue
        seen.add(code)
        yield from code.co_names
        yield from (c for c in code.co_consts if isinstance(c, str) and c.isidentifier())  # getattr
        for name in code.co_names:
            if isinstance(called := function.__globals__.get(name), FunctionType):
                yield from _names(called, seen)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A piece of code and those inside it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _codes(inner)
