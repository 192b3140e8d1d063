"""Is what the pull of a cell's own gives what steps of such shapes can give?"""

from __future__ import annotations

from typing import Any

from gradsim.contracts.promises import kind
from gradsim.contracts.trajectory import Pulled, Trajectory
from gradsim.errors import PluginError
from gradsim.types import Array, Params


def adjoints_of(trajectory: Trajectory, pulled: Pulled) -> Array:
    """The adjoints that the pull of a trajectory gives.

    Raises
    ------
    PluginError
        They are not those of some of its steps.
    """
    adjoints, (steps, batch, size) = pulled.adjoints, trajectory.after.shape
    shape, dtype = _form(adjoints)
    rows, *rest = shape or (0,)
    if not 2 <= rows <= steps + 1 or rest != [batch, size] or dtype != trajectory.states.dtype:
        raise PluginError(
            f"{trajectory.cell!r}: pull() through {steps} steps gives adjoints of {_given(adjoints)}, where "
            f"shape (k + 1, {batch}, {size}), {trajectory.states.dtype} is needed, for the last k of the "
            f"steps, k = 1 to {steps}"
        )
    return adjoints


def contributions_of(trajectory: Trajectory, pulled: Pulled) -> Params:
    """What enters dL/dparams at each step that was pulled through.

    Raises
    ------
    PluginError
        It is not an array for each parameter, with a row for each step.
    """
    steps = len(pulled.adjoints) - 1
    return _params(
        trajectory, pulled.contributions(), f"contributions() of pull() through {steps} steps", steps
    )


def gradient_of(trajectory: Trajectory, pulled: Pulled) -> Params:
    """The sum of the contributions.

    Raises
    ------
    PluginError
        It is not an array for each parameter, of its shape.
    """
    return _params(trajectory, pulled.gradient(), "gradient() of pull()")


def _params(trajectory: Trajectory, found: Any, what: str, *rows: int) -> Params:
    cell, params = trajectory.cell, trajectory.params
    if not isinstance(found, dict) or found.keys() != params.keys():
        given = sorted(map(str, found)) if isinstance(found, dict) else kind(found)
        raise PluginError(f"{cell!r}: {what} gives {given} for the parameters {sorted(params)}")
    for name, param in params.items():
        needed = (*rows, *param.shape)
        if _form(found[name]) != (needed, param.dtype):
            raise PluginError(
                f"{cell!r}: {what} gives {_given(found[name])} for {name!r}, where shape {needed}, "
                f"{param.dtype} is needed"
            )
    return found


def _form(value: Any) -> tuple[Any, Any]:
    return getattr(value, "shape", None), getattr(value, "dtype", None)


def _given(value: Any) -> str:
    shape, dtype = _form(value)
    return kind(value) if shape is None else f"shape {shape}, {dtype}"
