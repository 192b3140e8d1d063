"""How a training went, and what its probes say: a probe is what a simulation records, between two updates."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Literal

import numpy as np
import xarray as xr

from gradsim.analysis.choose import Found, describe, each, log10_of
from gradsim.errors import InputError
from gradsim.types import Array

PROBES = "probe_update"

_UPDATES = ("update", "validation_update", PROBES)

_MADE_BY = {
    "validation_loss": 'train with validate={"every": 100}',
    "validation_score": 'train on a task with a metric, with validate={"every": 100}',
    "spectral_radius": "train a cell with recurrent weights, with watch=True",
}


def of_training(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """A variable of a training, or an error that says how to get it."""
    if variable not in ds:
        fix = _MADE_BY.get(variable, "train with watch=True")
        there = ", ".join(str(v) for v in ds.data_vars) or "nothing"
        raise InputError(f"the dataset has no {variable}: {fix}. It has {there}")
    return ds[variable]


def log10_of_training(ds: xr.Dataset, variable: str) -> xr.DataArray:
    """log10 of a size of a training; -inf for an exact zero, NaN where not computed."""
    return log10_of(ds if f"{variable}_log10" in ds else of_training(ds, variable).to_dataset(), variable)


def probe(ds: xr.Dataset, update: int) -> xr.Dataset:
    """The probe nearest to an update, as if a simulation had recorded it.

    Every analysis and every plot of a simulation works on it. The coordinate `probe_update` says
    which one it is. Of a training that still goes on, only probes that were made count.
    """
    return made_probes(ds).sel({PROBES: update}, method="nearest")


def made_probes(ds: xr.Dataset) -> xr.Dataset:
    """What the probes recorded, without those that a training has not reached."""
    probed = ds[[v for v in ds.data_vars if PROBES in ds[v].dims]]
    if not probed.sizes.get(PROBES):
        there = ", ".join(str(v) for v in ds.data_vars) or "nothing"
        raise InputError(
            'the dataset has no probes: train with record={"every": 100, "recorders": ["product_norm"]}. '
            f"It has {there}"
        )
    made = np.any([array.notnull().any(_but(array)) for array in probed.values()], axis=0)
    if not made.any():
        raise InputError(f"none of the {len(made)} probes has been made so far")
    return probed.isel({PROBES: slice(int(np.flatnonzero(made)[-1]) + 1)})


def _but(array: xr.DataArray) -> list[object]:
    return [d for d in array.dims if d != PROBES]


def over_probes(ds: xr.Dataset, function: Callable[[xr.Dataset], Found]) -> Found:
    """What an analysis finds in every probe, side by side along `probe_update`.

    Parameters
    ----------
    function
        Of one probe, for example ``analysis.horizon`` or ``lambda p: analysis.gain(p).gain.mean("batch")``.
    """
    return each(made_probes(ds), PROBES, function)


def smoothed(
    values: xr.DataArray, over: int = 21, *, kind: Literal["median", "exponential"] = "median"
) -> xr.DataArray:
    """Values by update without their noise; NaN stay, and do not spread.

    Parameters
    ----------
    values
        With one of the dims `update`, `validation_update`, `probe_update`.
    over
        How many values count.
    kind
        "median": of those within (`over` - 1) / 2 on either side, fewer at both ends; one outlier, even
        infinity, changes little. "exponential": the mean of all values up to each one, those j back
        weighted by (1 - 2 / (`over` + 1))^j, all weights over their sum, so that the first value stays.
    """
    if over < 1 or (kind == "median" and over % 2 == 0) or (kind == "exponential" and over == 1):
        need = "an odd number from 1" if kind == "median" else "2 or more"
        raise InputError(f"smoothed: over should be {need} (got {over})")
    if kind not in (ways := {"median": _running_median, "exponential": _exponential_mean}):
        raise InputError(f"smoothed: kind should be 'median' or 'exponential' (got {kind!r})")
    axis = values.get_axis_num(_along(values))
    smooth = np.apply_along_axis(ways[kind], axis, values.values.astype(np.float64), over)
    kept = values.copy(data=np.where(np.isnan(values), np.nan, smooth))
    mean = "running median" if kind == "median" else "exponential mean"
    return kept.assign_attrs(long_name=f"{mean} of the {describe(values)}")


def _along(values: xr.DataArray) -> str:
    found = [d for d in _UPDATES if d in values.dims]
    if len(found) != 1:
        raise InputError(
            f"{values.name} has dims {values.dims}; exactly one of {', '.join(_UPDATES)} is needed"
        )
    return found[0]


def _running_median(values: Array, over: int) -> Array:
    """The window is kept in order: a value enters and one leaves, so that a wide one costs no more."""
    window: list[float] = []
    found, reach, numbers = np.full(len(values), np.nan), min(over // 2, len(values)), values.tolist()
    for centre in range(-reach, len(values)):
        for i, change in ((centre - reach - 1, _leave), (centre + reach, insort)):
            if 0 <= i < len(numbers) and numbers[i] == numbers[i]:
                change(window, numbers[i])
        if centre >= 0 and window:
            low, high = window[(len(window) - 1) // 2], window[len(window) // 2]
            found[centre] = low if low == high else low / 2 + high / 2
    return found


def _leave(window: list[float], value: float) -> None:
    del window[bisect_left(window, value)]


def _exponential_mean(values: Array, over: int) -> Array:
    keep, total, weight, found = 1 - 2 / (over + 1), 0.0, 0.0, np.full(len(values), np.nan)
    for i, value in enumerate(values.tolist()):
        there = value == value
        total, weight = keep * total + (value if there else 0.0), keep * weight + there
        found[i] = total / weight if weight else np.nan
    return found


def updates_until(
    values: xr.DataArray, *, below: float | None = None, above: float | None = None
) -> xr.DataArray:
    """The update at which values first pass a level; NaN where they never do.

    ``updates_until(ds.validation_score, above=0.95)`` says after how many updates a task is solved. A
    noisy loss passes too soon: take its `smoothed` one.
    """
    dim = _along(values)
    if below is not None and above is None:
        passed, level = values < below, f"below {below}"
    elif above is not None and below is None:
        passed, level = values > above, f"above {above}"
    else:
        raise InputError(f"updates_until: give below= or above= (got below={below}, above={above})")
    first = values[dim].values[passed.argmax(dim).values]
    attrs = {"long_name": f"first update with {describe(values)} {level}", "units": "update"}
    return passed.any(dim).copy(data=np.where(passed.any(dim), first, np.nan)).assign_attrs(attrs)
