"""Is what the pull of a cell's own gives what steps of such shapes can give?"""

from __future__ import annotations

from typing import Any

import numpy as np

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
    adjoints, (steps, batch, size) = np.asarray(pulled.adjoints), trajectory.after.shape
    if not 2 <= len(adjoints) <= steps + 1 or adjoints.shape[1:] != (batch, size):
        raise PluginError(
            f"{trajectory.cell!r}: pull() through {steps} steps gives adjoints of shape {adjoints.shape}, "
            f"where (k + 1, {batch}, {size}) is needed, for the last k of the steps, k = 1 to {steps}"
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
        shape, needed = getattr(found[name], "shape", None), (*rows, *param.shape)
        if shape != needed:
            given = kind(found[name]) if shape is None else f"shape {shape}"
            raise PluginError(f"{cell!r}: {what} gives {given} for {name!r}, where shape {needed} is needed")
    return found
