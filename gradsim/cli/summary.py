"""What runs came to, by kind of run, in one table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.cli.output import console, table
from gradsim.errors import InputError

if TYPE_CHECKING:
    from xarray import Dataset

LAGS = (1, 10, 100)
_MISSING = "-"

_LAST = 25
"""The median of the last 1/25 of all updates stands for the end of a noisy setup."""

_VALIDATED = ("validation_loss", "validation_score")
_KNOWN = ("ended", "trained_update", "loss", "metric", "baseline", "baseline_loss", "baseline_score")


def summarise(kind: str, data: Mapping[str, Dataset], folders: Mapping[str, Path]) -> None:
    """Print one row for each run, and where its files are."""
    made, note = _TABLES[kind](data)
    out = console()
    out.print(made)
    out.print(note)
    for label, ds in data.items():
        ended = f"ended {ds.attrs['ended']}; " if "ended" in ds.attrs else ""
        out.print(f"{label}: {ended}saved in {folders[label]}", soft_wrap=True)
    for label in [*data][:1]:
        out.print(f'To read it: xarray.open_zarr("{folders[label] / "data.zarr"}")', soft_wrap=True)


# Simulations.


def _simulated(data: Mapping[str, Dataset]) -> tuple[Any, str]:
    numbers = (*(f"lag {lag}" for lag in LAGS), "rate per step", "horizon", "loss")
    made = table("Median RMS gain of ds_t/ds_k at lag t - k", "run", *numbers, numbers=numbers)
    for label, ds in data.items():
        made.add_row(label, *_gains(ds), _rate(ds), _horizon(ds), f"{ds.attrs['loss']:.4g}")
    return (
        made,
        "rate: slope of ln gain; horizon: from this lag on the gain is below 0.01; it is 1 at lag 0",
    )


def _gains(ds: Dataset) -> list[str]:
    from gradsim.analysis import gain_by_lag

    try:
        median = gain_by_lag(ds, apart=())["median"]
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
        found = horizon(ds, apart=())
    except InputError:
        return _MISSING
    steps = float(found["horizon"])
    return f"> {int(found['longest_lag'])}" if math.isnan(steps) else f"{steps:.0f}"


def power_of_ten(exponent: float) -> str:
    """10^exponent, for exponents beyond the range of a float too."""
    if abs(exponent) < 300:
        return f"{10**exponent:.2g}"
    return "0" if exponent == -math.inf else f"1e{exponent:+.0f}"


# Trainings.


def result(ds: Dataset) -> dict[str, Any]:
    """What a training came to, as plain values: validations are those of the trained parameters."""
    at = {"validation_update": ds.attrs["trained_update"]}
    return {
        "update": ds.sizes.get("update", ds.attrs["trained_update"]),
        **{key: ds.attrs[key] for key in _KNOWN if key in ds.attrs},
        **{name: float(ds[name].sel(at)) for name in _VALIDATED if name in ds},
        **({"horizon": _last_horizon(ds)} if "train_horizon" in ds else {}),
    }


def _last_horizon(ds: Dataset) -> float:
    """How far back the adjoint reaches in the end; infinite if that is beyond the sequence."""
    last = ds["train_horizon"].values[-math.ceil(ds.sizes["update"] / _LAST) :]
    return float(np.median(np.where(np.isnan(last), np.inf, last)))


def _trained(data: Mapping[str, Dataset]) -> tuple[Any, str]:
    """One row for each training, next to trivial answers."""
    results = {label: result(ds) for label, ds in data.items()}
    metrics = dict.fromkeys(found["metric"] for found in results.values() if "metric" in found)
    numbers = ("updates", "horizon", "loss", "validation loss", *([" / ".join(metrics)] if metrics else []))
    made = table("Trained", "", *numbers, numbers=numbers)
    for label, found in results.items():
        made.add_row(label, *_row(found, "update", "horizon", "loss", *_VALIDATED)[: len(numbers)])
    for row in dict.fromkeys(_baseline(found) for found in results.values() if "baseline" in found):
        made.add_row(*row[: 1 + len(numbers)])
    return made, "horizon: from this lag on the norm of dL/ds_t is below 1 % of that at lag 0, in the end"


def _baseline(found: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"baseline: {found['baseline']}"
    return name, "", "", "", *_row(found, "baseline_loss", "baseline_score")


def _row(found: Mapping[str, Any], *keys: str) -> list[str]:
    return [_number(found[key]) if key in found else "" for key in keys]


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "beyond the sequence"


# Comparisons.


def _compared(data: Mapping[str, Dataset]) -> tuple[Any, str]:
    """One row for each cell, all seeds together, with what it has of what was held equal."""
    sizes = {"hidden_size": "units", "state_size": "state", "param_count": "parameters"}
    numbers = (*(f"lag {lag}" for lag in LAGS), "horizon", *sizes.values())
    made = table("Median RMS gain of ds_t/ds_k at lag t - k", "cell", *numbers, numbers=numbers)
    for run, ds in data.items():
        for label in ds["cell"].values:
            one = ds.sel(cell=label)
            name = f"{label}" if len(data) == 1 else f"{run}: {label}"
            made.add_row(name, *_gains(one), _horizon(one), *(f"{int(one[n])}" for n in sizes))
    return made, "horizon: from this lag on the gain is below 0.01; it is 1 at lag 0"


_TABLES = {"simulation": _simulated, "comparison": _compared, "training": _trained}
