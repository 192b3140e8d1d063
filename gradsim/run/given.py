"""Arrays that a user gives: read by name where they have names, and told apart in provenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from gradsim.contracts.problem import axis_dim
from gradsim.contracts.validation import unmasked
from gradsim.errors import InputError, NonFiniteError, shown
from gradsim.types import Array, Params

ANY = "..."
"""Stands for a dim of any name, but those that mean something else."""

INPUTS = (("time", "batch", ANY),)
"""The dims of inputs; a labelled array may have them in any order."""

INITIAL_STATE = ((ANY,), ("batch", ANY))
"""The dims of s_0, of one for all sequences or one each."""

_TAKEN = {"time", "step", "batch"}


def array(name: str, value: ArrayLike, orders: Sequence[tuple[str, ...]]) -> Array:
    """Real numbers; those of a labelled array in one of the orders of its dims, whatever its own is.

    Raises
    ------
    InputError
        These are no real numbers, some are masked, or dims have names that say nothing here.
    """
    if isinstance(value, xr.DataArray):
        value = _in_order(name, value, orders)
    elif isinstance(value, list | tuple) and any(isinstance(v, _WITH_MORE) for v in value):
        raise InputError(
            f"{name} is a list of labelled or masked arrays; join them with xarray.concat or numpy.ma.stack"
        )
    try:
        value = unmasked(value)
    except ValueError as error:
        raise InputError(f"{name} {error}") from None
    try:
        plain = np.asarray(value)
    except Exception as error:
        raise InputError(f"{name} should be an array of numbers ({error}; got {shown(value)})") from None
    if plain.dtype.kind not in "fiu":
        raise InputError(
            f"{name} should hold real numbers, got dtype {plain.dtype}; convert it to float64 first"
        )
    return plain


_WITH_MORE = (xr.DataArray, np.ma.MaskedArray)


def _in_order(name: str, value: xr.DataArray, orders: Sequence[tuple[str, ...]]) -> Any:
    for order in orders:
        others = [d for d in value.dims if d not in order]
        if len(order) == value.ndim and len(others) == order.count(ANY) and not _TAKEN & set(others):
            return value.transpose(*(others.pop() if d == ANY else d for d in order)).values
    needed = " or ".join(f"({', '.join('another' if d == ANY else repr(d) for d in o)})" for o in orders)
    raise InputError(
        f"{name} is a DataArray with the dims {tuple(value.dims)}, where {needed} are understood, in any "
        "order; rename them (.rename), add what is missing (.expand_dims), or give .values, to be read by "
        "position"
    )


def read(
    *,
    params: Mapping[str, ArrayLike] | None,
    inputs: ArrayLike | None = None,
    initial_state: ArrayLike | None = None,
) -> dict[str, Any]:
    """Those that are given, as arrays; `described` says in provenance what they are."""
    found: dict[str, Any] = {}
    if inputs is not None:
        found["inputs"] = array("inputs", inputs, INPUTS)
    if initial_state is not None:
        found["initial_state"] = array("initial_state", initial_state, INITIAL_STATE)
    if params is not None:
        found["params"] = named(params)
    return found


def named(given: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Parameters by name; the dims of a labelled one are those that it has in a dataset, such as `U_row`."""
    return {
        name: array(f"params[{name!r}]", value, _own_dims(name, value))
        for name, value in sorted(given.items())
    }


def _own_dims(param: str, value: ArrayLike) -> list[tuple[str, ...]]:
    return [tuple(axis_dim(param, i) for i in range(value.ndim))] if isinstance(value, xr.DataArray) else []


def finite(name: str, given: Array, dtype: np.dtype) -> Array:
    """A copy in the dtype of the run.

    Raises
    ------
    NonFiniteError, InputError
        Some are NaN or infinite, or beyond that dtype.
    """
    good = np.isfinite(given)
    if not good.all():
        bad = ~good
        where = tuple(int(i) for i in np.argwhere(bad)[0])
        place = (
            f"time {where[0]}, batch {where[1]}, feature {where[2]}"
            if name == "inputs" and len(where) == 3
            else f"index {where}"
        )
        raise NonFiniteError(
            f"{name} is {given[where]} for the first time at {place} ({int(bad.sum())} in all); fill or cut "
            "such values first"
        )
    with np.errstate(over="ignore"):
        converted = np.array(given, dtype=dtype)
    if dtype != given.dtype and not np.isfinite(converted).all():
        raise InputError(f"{name} does not fit into {dtype}; use dtype='float64'")
    return converted


def drawn(used: Sequence[str], own: Params, readout: Params, given: Mapping[str, Array] | None) -> list[str]:
    """Of the purposes that random numbers were drawn for, those where nothing given stands in their place."""
    names = (given or {}).keys()
    replaced = {"params": own.keys() <= names, "readout": readout.keys() <= names}
    return [purpose for purpose in dict.fromkeys(used) if not replaced.get(purpose)]
