"""Where derivatives are closed: the same functions for arrays of any library."""

from __future__ import annotations

import sys
from typing import Any

from autograd.extend import notrace_primitive

_unboxed = notrace_primitive(lambda x: x)


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
