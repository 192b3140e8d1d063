"""What a hook may hand on: seen where a mitigation returns it, in a run and so by the kit.

Every function here looks at what one mitigation was given and what it returned in its place, and raises an
error whose message goes on after the name of the hook.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.jacobians import Jacobians
from gradsim.contracts.mitigation import Penalty
from gradsim.contracts.promises import kind
from gradsim.errors import NonFiniteError, PluginError, unknown
from gradsim.types import Array


def refuse_wrong(hook: str, given: Any, result: Any) -> None:
    """Raise unless a mitigation may return this from a hook, in place of what it was given.

    Raises
    ------
    PluginError
        It is of another kind, or has other names or shapes.
    NonFiniteError
        NaN or infinity has been made of finite numbers.
    """
    if result is None:
        raise PluginError("returned None; end it with `return` and the changed result")
    if result is not given:
        _OF[hook](given, result)


def refuse_other_arrays(given: Mapping[str, Array], result: Any) -> None:
    """Raise unless these are finite arrays of the same names and shapes."""
    _refuse_other_kind(Mapping, "a dict of arrays", result)
    for name in result:
        if name not in given:
            raise PluginError(f"returned too much: {unknown('parameter', name, given)}")
    for name, value in given.items():
        if name not in result:
            raise PluginError(f"returned nothing for {name!r}; keep what yield gave, with `|` or {{**...}}")
        refuse_other_array(repr(name), np.asarray(value), result[name])


def refuse_other_array(what: str, given: Array, value: Any) -> None:
    """Raise unless this is a finite array of the shape of the one that was given."""
    refuse_no_numbers(what, value)
    if value.shape != given.shape:
        raise PluginError(f"returned {what} of shape {value.shape}, where {given.shape} is needed")
    if not _finite(value.astype(given.dtype, copy=False)) and _finite(given):
        raise NonFiniteError(f"returned NaN or infinity for {what}, in {given.dtype}")


def refuse_no_numbers(what: str, value: Any) -> None:
    """Raise unless this is an array of real numbers."""
    if not isinstance(value, np.ndarray | np.generic):
        raise PluginError(f"returned {kind(value)} for {what}, where an array is needed")
    if value.dtype.kind not in "fiu":
        raise PluginError(f"returned {what} of dtype {value.dtype}, where real numbers are needed")


def _refuse_other_kind(cls: type, what: str, result: Any) -> None:
    if not isinstance(result, cls):
        raise PluginError(f"should return {what}, not {kind(result)}")


def _finite(x: Any) -> bool:
    # The product of a vector with itself is the quickest to make, and finite if all is well.
    return math.isfinite(np.vdot(x, x)) or bool(np.isfinite(x).all())


def _cell(given: Cell, result: Any) -> None:
    _refuse_other_kind(Cell, "a Cell", result)


def _step_data(given: Mapping[str, Array], result: Any) -> None:
    _refuse_other_kind(Mapping, "a dict of arrays", result)
    lead = next((np.shape(value)[:2] for value in given.values()), None)
    for name in given:
        if name not in result:
            raise PluginError(f"returned nothing for {name!r}; keep what yield gave, with `|` or {{**...}}")
    for name, value in result.items():
        if np.shape(value)[:2] != lead is not None:
            raise PluginError(
                f"returned {name!r} of shape {np.shape(value)}, whose leading axes should be "
                f"(steps, batch) = {lead}"
            )


def _jacobians(given: Jacobians, result: Any) -> None:
    _refuse_other_kind(Jacobians, "Jacobians, by `changed` or `reaching` on what yield gave", result)
    reach = result.reach
    if reach.shape != given.reach.shape or reach.dtype.kind not in "iu" or (reach < 0).any():
        raise PluginError(
            f"returned a reach of shape {reach.shape}, {reach.dtype}, where {given.reach.shape} ints, 0 or "
            "more, are needed"
        )


def _adjoint(given: Array, result: Any) -> None:
    refuse_other_array("the adjoint", given, result)


def _rule(given: None, result: Any) -> None:
    _refuse_other_kind(Mapping, "a dict of arrays", result)
    for name, value in result.items():
        refuse_no_numbers(repr(name), value)


def _penalty(given: Penalty, result: Any) -> None:
    _refuse_other_kind(Penalty, "a Penalty", result)
    value = result.value
    if np.ndim(value) or not isinstance(value, float | int | np.generic | np.ndarray):
        raise PluginError(f"returned a Penalty whose value is {value!r}, where one number is needed")
    refuse_no_numbers("the value", np.asarray(value))
    _refuse_other_kind(Mapping, "a Penalty whose gradient is a dict of arrays", result.gradient)
    slopes = {repr(name): g for name, g in result.gradient.items()}
    if result.state_gradient is not None:
        slopes["state_gradient"] = result.state_gradient
    for what, slope in {"the value": np.asarray(value), **slopes}.items():
        refuse_no_numbers(what, slope)
        if not _finite(slope):
            raise NonFiniteError(f"returned NaN or infinity for {what} of the penalty")


_OF: Mapping[str, Callable[[Any, Any], None]] = {
    "gradsim_cell": _cell,
    "gradsim_params": refuse_other_arrays,
    "gradsim_step_data": _step_data,
    "gradsim_jacobians": _jacobians,
    "gradsim_adjoint": _adjoint,
    "gradsim_contributions": refuse_other_arrays,
    "gradsim_rule": _rule,
    "gradsim_penalty": _penalty,
    "gradsim_gradient": refuse_other_arrays,
    "gradsim_update": refuse_other_arrays,
}
