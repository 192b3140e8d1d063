"""Find variables in a dataset, and say which recorder makes one that is missing."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradsim.errors import InputError

LOG10 = "_log10"

_PREFIX = "log10 of the "

_OF_PARAMS = ("gradient", "contribution")


def values_of(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """The variable, or an error that names the recorder to add."""
    if variable not in ds:
        recorder = _recorder(variable)
        there = ", ".join(str(v) for v in ds.data_vars) or "nothing"
        raise InputError(
            f"the dataset has no {variable}: add the recorder {recorder!r} to record= (--record {recorder}) "
            f"and run again. It has {there}"
        )
    return ds[variable]


def log10_of(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """log10 of a size: its recorded twin, or made here; -inf for an exact zero, NaN where not computed."""
    name = variable.removesuffix(LOG10)
    if name + LOG10 in ds:
        return ds[name + LOG10]
    size = values_of(ds, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        log10: xr.DataArray = np.log10(size)  # type: ignore[assignment]
    return log10.rename(name + LOG10).assign_attrs(size.attrs, long_name=_PREFIX + describe(size))


def describe(array: xr.DataArray) -> str:
    """What an array is, in words."""
    return str(array.attrs.get("long_name", array.name))


def describe_size(ds: xr.Dataset, variable: str) -> str:
    """What the size is, in words, whether it or only its log10 is there."""
    return describe(log10_of(ds, variable)).removeprefix(_PREFIX)


def _recorder(variable: str) -> str:
    """The recorder of a variable: one a parameter is `gradient_W`, of the recorder `gradient`."""
    prefix = "effective_" if variable.startswith("effective_") else ""
    name = variable.removeprefix(prefix).removesuffix(LOG10)
    if name.endswith(("_norm", "_factor")):
        return prefix + name
    return prefix + next((family for family in _OF_PARAMS if name.startswith(f"{family}_")), name)
