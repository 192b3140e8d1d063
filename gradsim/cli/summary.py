"""What the runs say, in one table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from gradsim.cli.output import console, table
from gradsim.errors import InputError

if TYPE_CHECKING:
    from xarray import Dataset

LAGS = (1, 10, 100)
_MISSING = "-"


def summarise(data: Mapping[str, Dataset], folders: Sequence[Path]) -> None:
    """Print one row for each run, and where its files are."""
    numbers = (*(f"lag {lag}" for lag in LAGS), "rate per step", "horizon", "loss")
    made = table("Median norm of ds_t/ds_k at lag t - k", "run", *numbers, numbers=numbers)
    for label, ds in data.items():
        made.add_row(label, *_norms(ds), _rate(ds), _horizon(ds), f"{ds.attrs['loss']:.4g}")
    out = console()
    out.print(made)
    out.print("rate: slope of ln norm; horizon: from this lag on the norm is below 1 % of that at lag 0")
    for label, folder in zip(data, folders, strict=True):
        out.print(f"{label}: saved in {folder}", soft_wrap=True)
    out.print(f'To read it: xarray.open_zarr("{folders[0] / "data.zarr"}")', soft_wrap=True)


def _norms(ds: Dataset) -> list[str]:
    from gradsim.analysis import norm_by_lag

    try:
        median = norm_by_lag(ds)["median"]
    except InputError:
        return [_MISSING] * len(LAGS)
    there = set(median["lag"].values.tolist())
    return [power_of_ten(float(median.sel(lag=lag))) if lag in there else _MISSING for lag in LAGS]


def _rate(ds: Dataset) -> str:
    from gradsim.analysis import decay_rate

    try:
        found = decay_rate(ds)
    except InputError:
        return _MISSING
    error = float(found["standard_error"])
    return f"{float(found['rate']):.3g}" + ("" if math.isnan(error) else f" ± {error:.1g}")


def _horizon(ds: Dataset) -> str:
    from gradsim.analysis import horizon

    try:
        found = horizon(ds)
    except InputError:
        return _MISSING
    steps = float(found["horizon"])
    return f"> {int(found['longest_lag'])}" if math.isnan(steps) else f"{steps:.0f}"


def power_of_ten(exponent: float) -> str:
    """10^exponent, for exponents beyond the range of a float too."""
    if abs(exponent) < 300:
        return f"{10**exponent:.2g}"
    return "0" if exponent == -math.inf else f"1e{exponent:+.0f}"
