"""Pairs (t, k) by their lag t - k."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import xarray as xr

from gradsim.analysis.choose import APART, LOG10, describe, describe_size, log10_of, values_of
from gradsim.errors import InputError
from gradsim.types import Array

_LAG_LABEL = {"long_name": "lag t - k", "units": "step"}

_FAR = 1e300
"""Stands in for log10 of 0 and of infinity where numbers are interpolated: inf - inf would be NaN."""


def by_lag(ds: xr.Dataset, variable: str = "gain") -> xr.DataArray:
    """A variable of pairs (t, k), laid out by lag.

    Parameters
    ----------
    ds
        With `variable`, or the norm that a gain is made of, of dims (time, source, ...),
        (chosen_time, source, ...) or (source, lag, ...).

    Returns
    -------
    xarray.DataArray
        Dims (source, lag, ...), or (chosen_time, lag, ...) where times were chosen; NaN where there is
        no such pair. `lag` holds every lag that occurs.
    """
    return pairs_by_lag(values_of(ds, variable))


def pairs_by_lag(array: xr.DataArray) -> xr.DataArray:
    """Values of pairs (t, k), laid out by lag; see `by_lag`."""
    if "lag" in array.dims:
        return array.transpose("source", "lag", ...)
    time = next((d for d in ("time", "chosen_time") if d in array.dims), None)
    if time is None or "source" not in array.dims:
        raise InputError(
            f"{array.name} has dims {array.dims}; pairs (time, source) or (source, lag) are needed"
        )
    array = array.transpose(time, "source", ...)
    anchor = "source" if time == "time" else time
    lag = array[time].values[:, None] - array["source"].values
    rows = np.nonzero(lag >= 0)
    lags, column = np.unique(lag[rows], return_inverse=True)
    values = np.full((array.sizes[anchor], len(lags), *array.shape[2:]), np.nan)
    values[rows[anchor == "source"], column] = array.values[rows]
    others = {n: c for n, c in array.coords.items() if not {time, "source"} & set(c.dims)}
    coords = {anchor: array[anchor], "lag": ("lag", lags, _LAG_LABEL), **others}
    return xr.DataArray(values, coords, (anchor, "lag", *array.dims[2:]), array.name, array.attrs)


def gain_by_lag(
    ds: xr.Dataset,
    variable: str = "gain",
    *,
    quantiles: Sequence[float] = (0.1, 0.9),
    apart: Sequence[str] = APART,
) -> xr.Dataset:
    """How large the gain of P(t, k) typically is at each lag.

    The long lags have few sources: `count` says how many pairs stand behind each value.

    Parameters
    ----------
    apart
        Dims of a comparison whose members are summarised each by itself; ``apart=("cell",)`` takes all seeds
        of a cell together.

    Returns
    -------
    xarray.Dataset
        `median` (lag) and `quantiles` (quantile, lag) over all sources and batch elements, as log10
        of the gain (-inf for an exact zero), and `count` (lag), the number of pairs; before `lag` the dims
        that are kept apart.
    """
    if not all(0 <= q <= 1 for q in quantiles):
        raise InputError(f"quantiles should lie in 0..1 (got {list(quantiles)})")
    pairs = pairs_by_lag(log10_of(ds, variable))
    over = pooled(pairs, apart)
    levels = spread(pairs, over, (0.5, *quantiles)).transpose(..., "lag")
    what = describe_size(ds, variable)
    units = {"units": "1"}
    return xr.Dataset(
        {
            "median": levels[0]
            .drop_vars("quantile")
            .assign_attrs(units, long_name=f"log10 of the median {what}"),
            "quantiles": levels[1:].assign_attrs(units, long_name=f"log10 of quantiles of the {what}"),
            "count": pairs.notnull()
            .sum(over)
            .transpose(..., "lag")
            .assign_attrs(units, long_name="number of pairs"),
        },
        attrs={**ds.attrs, "variable": variable.removesuffix(LOG10), "variable_long_name": what},
    )


def pooled(pairs: xr.DataArray, apart: Sequence[str]) -> list[Hashable]:
    """The dims of pairs by lag that are taken together: sources first, and all that is not kept apart."""
    return [d for d in pairs.dims if d not in ("lag", *apart)]


def spread(log10: xr.DataArray, over: Sequence[object], levels: Sequence[float]) -> xr.DataArray:
    """Quantiles over some dims, first dim `quantile`; NaN are left out, -inf is that of zero."""
    kept = [d for d in log10.dims if d not in over]
    array = log10.transpose(*kept, ...)
    values = array.values.astype(np.float64).reshape(*(array.sizes[d] for d in kept), -1)
    found = _quantiles(np.clip(values, -_FAR, _FAR), np.asarray(levels, dtype=float))
    coords = {n: c for n, c in array.coords.items() if set(c.dims) <= set(kept)}
    label = {"long_name": "quantile", "units": "1"}
    return xr.DataArray(
        found,
        {**coords, "quantile": ("quantile", list(levels), label)},
        ("quantile", *kept),
        attrs={"long_name": f"quantiles of {describe(log10)}", "units": "1"},
    )


def _quantiles(flat: Array, levels: Array) -> Array:
    """Linear quantiles over the last axis of what is not NaN."""
    ordered = np.sort(flat, axis=-1)
    last = np.sum(~np.isnan(flat), axis=-1) - 1
    place = levels.reshape(-1, *[1] * last.ndim) * np.maximum(last, 0)
    low, part = np.floor(place).astype(int), place % 1
    first, second = (
        np.take_along_axis(ordered[None], np.minimum(i, np.maximum(last, 0))[..., None], -1)[..., 0]
        for i in (low, low + 1)
    )
    values = first + part * (second - first)
    return np.asarray(np.where(np.abs(values) > _FAR / 1e9, np.copysign(np.inf, values), values))
