"""Find variables in a dataset, and say which recorder makes one that is missing."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np
import xarray as xr

from gradsim.contracts.problem import joined
from gradsim.errors import InputError

LOG10 = "_log10"

_PREFIX = "log10 of the "

GAINS = {
    "gain": ("product_norm", "jacobian_product"),
    "effective_gain": ("effective_product_norm", "effective_jacobian_product"),
}
"""Sizes that are made here: the norms that they are made of, and what those are of."""

APART = ("cell", "mitigation", "seed")
"""The dims of a comparison, whose members are summarised each by itself unless they are told to be one."""

_OF_PARAMS = ("gradient", "contribution")


Found = TypeVar("Found", xr.Dataset, xr.DataArray)


def each(ds: xr.Dataset, dim: str, function: Callable[[xr.Dataset], Found]) -> Found:
    """What an analysis finds in every member of a dim, side by side along it."""
    found = [function(ds.isel({dim: i})) for i in range(ds.sizes[dim])]
    along = {n: c for n, c in ds.coords.items() if dim in c.dims}
    found = [one.drop_vars(along, errors="ignore") for one in found]
    # What is alike in all is kept once; xarray's own defaults for this are about to change.
    how: dict[str, Any] = {"coords": "minimal", "compat": "override", "join": "exact", "data_vars": "all"}
    beside: Found = xr.concat(found, dim, combine_attrs="drop_conflicts", **how)
    return beside.assign_coords({n: c for n, c in along.items() if set(c.dims) <= set(beside.dims)})


def has(ds: xr.Dataset, variable: str) -> bool:
    """Whether a size or its log10 is there."""
    return variable in ds or variable + LOG10 in ds


def values_of(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """The variable, or an error that names the recorder to add; a gain is made of the norm."""
    if variable in GAINS and variable not in ds:
        return _gain(ds, variable)
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
    if name in GAINS and name not in ds:
        gain: xr.DataArray = log10_of(ds, GAINS[name][0]) - _of_size(ds, math.log10, np.log10) / 2
        label = gain_label(name, *_chosen(ds))
        return gain.rename(name + LOG10).assign_attrs(units="1", long_name=_PREFIX + label)
    size = values_of(ds, name)
    with np.errstate(divide="ignore", invalid="ignore"):
        log10: xr.DataArray = np.log10(size)  # type: ignore[assignment]
    return log10.rename(name + LOG10).assign_attrs(size.attrs, long_name=_PREFIX + describe(size))


def _gain(ds: xr.Dataset, name: str) -> xr.DataArray:
    log10, norm = log10_of(ds, name), GAINS[name][0]
    gain = ds[norm] / _of_size(ds, math.sqrt, np.sqrt) if norm in ds else 10.0**log10
    return gain.rename(name).assign_attrs(units="1", long_name=gain_label(name, *_chosen(ds)))


def gain_label(name: str, block_out: str | None = None, block_in: str | None = None) -> str:
    """What a gain between blocks, or of the whole state, is."""
    effective = "effective " if name.startswith("effective_") else ""
    return f"{effective}RMS gain of d{block_out or 's'}_t/d{block_in or 's'}_k"


def blocks_of(ds: xr.Dataset) -> dict[str, int]:
    """The blocks of the state and their sizes."""
    if "blocks" not in ds.attrs:
        raise InputError(
            "the dataset does not say how large the state is, which a gain is relative to: its attribute "
            "blocks is missing. Keep the attributes (keep_attrs=True), or set it, as in ds.attrs['blocks'] = "
            "'{\"h\": 32}'"
        )
    return dict(json.loads(ds.attrs["blocks"]))


def _of_size(ds: xr.Dataset, of_one: Callable[[int], float], of_each: Callable[[Any], Any]) -> Any:
    """A function of `directions`; of one number for all a plain one, which widens no dtype."""
    size = directions(ds)
    return of_each(size) if isinstance(size, xr.DataArray) else of_one(size)


def state_size(ds: xr.Dataset) -> Any:
    """The length of the state vector; of a comparison by cell."""
    return ds["state_size"] if "state_size" in ds.coords else sum(blocks_of(ds).values())


def chosen_blocks(ds: xr.Dataset, side: str) -> list[str] | None:
    """The blocks "out" or "in" of which products are recorded, if some were chosen."""
    record = json.loads(ds.attrs.get("provenance", "{}"))
    probe = record.get("training", {}).get("record")
    found: list[str] | None = (probe or record).get("pairs", {}).get(f"blocks_{side}")
    return found


def directions(ds: xr.Dataset) -> Any:
    """The number of components at k that recorded products start from; of a comparison by cell."""
    if told := [ds[name] for name in ("directions", "state_size") if name in ds.coords]:
        return told[0]
    blocks, chosen = blocks_of(ds), chosen_blocks(ds, "in")
    return sum(size for name, size in blocks.items() if chosen is None or name in chosen)


def _chosen(ds: xr.Dataset) -> list[str | None]:
    both = (chosen_blocks(ds, side) for side in ("out", "in"))
    return [None if names is None else joined(names) for names in both]


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
