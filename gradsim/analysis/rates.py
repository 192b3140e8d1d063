"""How fast gains shrink or grow with the lag, and where they are gone."""

from __future__ import annotations

import itertools
import math
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
import xarray as xr

from gradsim.analysis.choose import APART, describe_size, each, log10_of
from gradsim.analysis.lags import pairs_by_lag, pooled, spread
from gradsim.errors import InputError
from gradsim.numerics.horizon import horizon as _lag_below
from gradsim.types import Array

_PER_STEP = {"units": "1/step"}
_LEAST_PIECE, _MOST_PIECES = 4, 10


def decay_rate(
    ds: xr.Dataset,
    variable: str = "gain",
    *,
    lags: tuple[int, int] | None = None,
    samples: Literal["window", "batch"] = "window",
    confidence: float = 0.95,
) -> xr.Dataset:
    """The slope of ln gain against lag, per step: negative where gradients vanish.

    ln gain of P(k + l, k) is close to a random walk in l, and neighbouring sources share almost all of
    their steps: residuals of one straight line through all pairs say next to nothing about its error.
    So the record is cut into windows that share no step, the slope of each is fitted by least squares,
    and the error of the mean slope is their standard deviation over the root of their number.

    A window is one source and the lags `lags`; the next source lies a whole window later. A single
    source (or chosen time) is instead cut into up to ten ranges of lags. The slope in a window is the
    least-squares one: for a random walk its variance is 6/5 of the best, and it averages out the
    oscillation of complex eigenvalues, which the two end points would not.

    Parameters
    ----------
    lags
        The shortest and the longest lag of the fit. Left out: the longest is a quarter of the record
        (or all of a lag band), the shortest a quarter of that, past the transient in which the product
        aligns with its leading direction. For a constant map of spectral radius r the rate tends to ln r.
    samples
        "window": windows of all batch elements count as independent, right when the dynamics
        forgets within a window and each element has inputs of its own. "batch": the mean of each batch
        element counts as one sample, right when neighbouring windows resemble each other.
    confidence
        Of the interval, which uses Student's t.

    Returns
    -------
    xarray.Dataset
        `rate`, `standard_error`, `low` and `high`, natural logarithm per step; `window_rate` (window,
        batch), and `samples`, their number; of a comparison for each cell and seed by
        itself. Gains of zero give -inf, infinite ones inf.
        With one sample the error is NaN.
    """
    if members := [dim for dim in APART if dim in ds.dims]:
        how: dict[str, Any] = {"lags": lags, "samples": samples, "confidence": confidence}
        return each(ds, members[0], lambda one: decay_rate(one, variable, **how))
    if samples not in ("window", "batch"):
        raise InputError(f"samples should be 'window' or 'batch' (got {samples!r})")
    if not 0 < confidence < 1:
        raise InputError(f"confidence should lie between 0 and 1 (got {confidence})")
    pairs = pairs_by_lag(log10_of(ds, variable))
    first, last = _range(pairs, lags)
    slopes = _slopes(pairs, first, last)
    values = slopes.values.ravel() if samples == "window" else slopes.mean("window").values.ravel()
    values = values[~np.isnan(values)]
    if not len(values):
        raise InputError(
            f"no source has all lags {first}..{last} on record; choose fewer with lags=(first, last)"
        )
    rate, error = _mean_and_error(values)
    reach = student_t(0.5 + confidence / 2, len(values) - 1) * error
    what = describe_size(ds, variable)
    return xr.Dataset(
        {
            "rate": _labelled(rate, f"slope of ln {what} against lag"),
            "standard_error": _labelled(error, "standard error of the rate"),
            "low": _labelled(rate - reach, f"lower end of the {confidence:.0%} interval"),
            "high": _labelled(rate + reach, f"upper end of the {confidence:.0%} interval"),
            "samples": _labelled(len(values), f"number of independent {samples} means", "1"),
            "window_rate": slopes,
        },
        attrs={**ds.attrs, "variable": variable, "first_lag": first, "last_lag": last},
    )


def _labelled(value: float, long_name: str, units: str = "1/step") -> xr.DataArray:
    return xr.DataArray(value, attrs={"long_name": long_name, "units": units})


def _mean_and_error(values: Array) -> tuple[float, float]:
    if not np.isfinite(values).all():
        with np.errstate(invalid="ignore"):
            return float(values.mean()), np.nan
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else np.nan
    return float(values.mean()), float(error)


def _range(pairs: xr.DataArray, lags: tuple[int, int] | None) -> tuple[int, int]:
    """The lags to fit, both on record."""
    there = pairs["lag"].values
    longest = int(there[-1])
    if lags is None:
        anchors = pairs[pairs.dims[0]].values
        record = max(longest, int(anchors[-1] - anchors[0]))
        last = min(longest, max(record // 4, 2)) if len(anchors) > 1 else longest
        lags = (last // 4, last)
        if len(_inside(there, lags)) < 2:
            lags = (int(there[0]), longest)
    first, last = (int(x) for x in lags)
    if not 0 <= first < last <= longest:
        raise InputError(f"lags should be (first, last) with 0 <= first < last <= {longest} (got {lags})")
    if (count := len(_inside(there, (first, last)))) < 2:
        known = ", ".join(map(str, there))
        raise InputError(f"lags={(first, last)} holds {count} of the recorded lags {known}; a rate needs two")
    return first, last


def _inside(there: Array, lags: tuple[int, int]) -> Array:
    return there[(there >= lags[0]) & (there <= lags[1])]


def _slopes(pairs: xr.DataArray, first: int, last: int) -> xr.DataArray:
    """Slopes (window, batch) in windows that share no step; NaN where one is not on record."""
    anchors = pairs[pairs.dims[0]].values
    others = [d for d in pairs.dims[2:] if d != "batch"]
    if others:
        raise InputError(f"{pairs.name} has dims {pairs.dims}; select one of {others} first")
    values = math.log(10) * pairs.values.reshape(*pairs.shape[:2], -1)
    lags = pairs["lag"].values
    rows, starts = [], []
    for low, high, i in _windows(pairs, first, last):
        inside = (lags >= low) & (lags <= high)
        rows.append(_slope(lags[inside], values[i, inside]))
        starts.append(anchors[i])
    label = {"long_name": "slope of the logarithm in a window", **_PER_STEP}
    batch = {"batch": pairs["batch"]} if "batch" in pairs.dims else {}
    anchor = {"anchor": ("window", starts, {"long_name": f"{pairs.dims[0]} of the window"})}
    shape = (len(rows), values.shape[-1])
    return xr.DataArray(np.array(rows).reshape(shape), {**batch, **anchor}, ("window", "batch"), attrs=label)


def _windows(pairs: xr.DataArray, first: int, last: int) -> list[tuple[int, int, int]]:
    """(shortest lag, longest lag, position of the anchor), sharing no step."""
    anchors = pairs[pairs.dims[0]].values
    chosen: list[int] = []
    inside = pairs.sel(lag=slice(first, last))
    complete = inside.notnull().any(pairs.dims[2:]).all("lag").values
    for i in np.flatnonzero(complete).tolist():
        if not chosen or anchors[i] - anchors[chosen[-1]] >= last - first:
            chosen.append(i)
    if len(chosen) != 1:
        return [(first, last, i) for i in chosen]
    lags = inside["lag"].values
    pieces = int(np.clip((len(lags) - 1) // _LEAST_PIECE, 1, _MOST_PIECES))
    edges = lags[np.linspace(0, len(lags) - 1, pieces + 1).astype(int)]
    return [(int(a), int(b), chosen[0]) for a, b in itertools.pairwise(edges)]


def _slope(lags: Array, logs: Array) -> Array:
    """Least-squares slope of each column (lag, batch); -inf where a gain is zero, else inf where one is."""
    centred = lags - lags.mean()
    infinite = np.isinf(logs)
    slope = centred @ np.where(infinite, 0.0, logs) / (centred @ centred)
    return np.asarray(np.where(infinite.any(axis=0), np.where(infinite, logs, np.inf).min(axis=0), slope))


def student_t(probability: float, degrees: int) -> float:
    """Quantile of Student's t; NaN for no degree of freedom.

    With t = sqrt(n) tan(angle) the density is cos(angle)^(n-1), on a bounded range.
    """
    if degrees < 1:
        return np.nan
    angle = np.linspace(0, np.pi / 2, 20001)
    density = np.cos(angle) ** (degrees - 1)
    mass = np.concatenate([[0], np.cumsum(density[1:] + density[:-1])])
    return float(np.sqrt(degrees) * np.tan(np.interp(2 * probability - 1, mass / mass[-1], angle)))


def horizon(
    ds: xr.Dataset, threshold: float = 0.01, variable: str = "gain", *, apart: Sequence[str] = APART
) -> xr.Dataset:
    """The lag from which on the gain stays below `threshold` times that at lag 0, which is 1.

    Between two recorded lags its logarithm is taken for linear in the lag: of powers w^l the horizon is
    ln threshold / ln w, whatever lags are recorded.

    Parameters
    ----------
    apart
        Dims of a comparison whose members have a horizon each; ``apart=("cell",)`` takes all seeds of a cell
        together.

    Returns
    -------
    xarray.Dataset
        `horizon`, of the median over sources and batch elements, and `horizon_by_batch` (batch), of
        the median over sources, in steps. NaN where the gain is still above the threshold at the
        longest recorded lag, `longest_lag`: the horizon is beyond the record, and `comment` says so.
    """
    if not 0 < threshold <= 1:
        raise InputError(f"threshold should be above 0 and at most 1 (got {threshold})")
    pairs = pairs_by_lag(log10_of(ds, variable))
    lags = pairs["lag"].values
    if lags[0] != 0:
        raise InputError(f"{variable} has no lag 0 on record, which the threshold is relative to")
    over = pooled(pairs, apart)
    level = math.log10(threshold)
    values = {
        "horizon": _horizon(pairs, over, level, f"the median {describe_size(ds, variable)}"),
        "horizon_by_batch": _horizon(pairs, over[:1], level, "the median over sources"),
    }
    longest = _labelled(int(lags[-1]), "longest recorded lag", "step")
    return xr.Dataset({**values, "longest_lag": longest}, attrs={**ds.attrs, "threshold": threshold})


def _horizon(pairs: xr.DataArray, over: Sequence[Hashable], level: float, what: str) -> xr.DataArray:
    median = spread(pairs, over, (0.5,))[0].drop_vars("quantile").transpose("lag", ...)
    lags = pairs["lag"].values
    found = np.apply_along_axis(_lag_below, 0, median.values, lags, level)
    attrs = {"long_name": f"lag from which on {what} is below the threshold", "units": "step"}
    if np.isnan(found).any():
        attrs["comment"] = f"NaN: not below the threshold for good within the {lags[-1]} recorded lags"
    coords = {n: c for n, c in median.coords.items() if "lag" not in c.dims}
    return xr.DataArray(found, coords, median.dims[1:], attrs=attrs)
