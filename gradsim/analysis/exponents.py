"""What Lyapunov exponents say of an attractor: its dimension, and the entropy that it makes."""

from __future__ import annotations

import numpy as np
import xarray as xr

from gradsim.analysis.choose import state_size, values_of
from gradsim.types import Array

_MODES = {"mode", "leading_mode"}


def kaplan_yorke(ds: xr.Dataset, variable: str = "lyapunov") -> xr.DataArray:
    """The Kaplan-Yorke dimension j + (l_1 + ... + l_j) / |l_{j+1}| of exponents l_1 >= l_2 >= ...

    j is the largest number of exponents whose sum is not negative: volumes of j dimensions still grow, those
    of j + 1 shrink, and in between lies the dimension in which they keep their size. 0 where all exponents
    are negative, m where all volumes grow; the same whether exponents are per step or per unit of
    time. Kaplan & Yorke (1979), Chaotic behavior of multidimensional difference equations.

    Parameters
    ----------
    variable
        `lyapunov`, or `leading_lyapunov`: then NaN where more exponents would be needed.

    Returns
    -------
    xarray.DataArray
        The dims of the exponents but their own.
    """
    exponents, values, complete = _sorted(ds, variable)
    sums = np.cumsum(values, axis=-1)
    count = (sums >= 0).sum(axis=-1)  # they fall for good once they fall
    whole = count == values.shape[-1]
    inside = np.minimum(count, values.shape[-1] - 1)[..., None]
    held = np.take_along_axis(sums, np.maximum(inside - 1, 0), -1)[..., 0] * (count > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        between = held / np.abs(np.take_along_axis(values, inside, -1)[..., 0])
    found = np.where(whole, values.shape[-1] if complete else np.nan, count + between)
    found = np.where(np.isnan(values).any(axis=-1), np.nan, found)
    return _labelled(exponents, found, "kaplan_yorke", "Kaplan-Yorke dimension", "1")


def entropy(ds: xr.Dataset, variable: str = "lyapunov") -> xr.DataArray:
    """The sum of the positive exponents: at most so much entropy is made, natural logarithm.

    Per step or per unit of time, as the exponents are, and its attribute `units` says.

    It is equal to the Kolmogorov-Sinai entropy where the invariant measure is smooth along the expanding
    directions: Pesin (1977), Characteristic Lyapunov exponents and smooth ergodic theory; else it is above
    that (Ruelle 1978).

    Parameters
    ----------
    variable
        `lyapunov`, or `leading_lyapunov`: then NaN where all of them are positive and there are others.
    """
    exponents, values, complete = _sorted(ds, variable)
    found = np.maximum(values, 0).sum(axis=-1)
    found = np.where((values[..., -1] > 0) & (not complete), np.nan, found)
    units = exponents.attrs.get("units", "1/step")
    return _labelled(exponents, found, "entropy", "sum of the positive Lyapunov exponents", units)


def _sorted(ds: xr.Dataset, variable: str) -> tuple[xr.DataArray, Array, bool]:
    """Exponents with the dim of the modes last, decreasing; and whether they are all that there are."""
    exponents = values_of(ds, variable)
    (dim,) = (d for d in exponents.dims if d in _MODES)
    exponents = exponents.transpose(..., dim)
    values = -np.sort(-exponents.values.astype(np.float64), axis=-1)
    return exponents.isel({dim: 0}, drop=True), values, bool(np.all(state_size(ds) == values.shape[-1]))


def _labelled(like: xr.DataArray, values: Array, name: str, long_name: str, units: str) -> xr.DataArray:
    return xr.DataArray(values, like.coords, like.dims, name, attrs={"long_name": long_name, "units": units})
