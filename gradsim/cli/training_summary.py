"""What trainings came to, in one table on the terminal."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from gradsim.cli.output import console, table

if TYPE_CHECKING:
    from xarray import Dataset

_LAST = 25
"""The median of the last 1/25 of all updates stands for the end of a noisy course."""

_VALIDATED = ("validation_loss", "validation_score")
_KNOWN = ("ended", "trained_update", "loss", "metric", "baseline", "baseline_loss", "baseline_score")


def result(ds: Dataset) -> dict[str, Any]:
    """What a training came to, as plain values: validations are those of the trained parameters."""
    at = {"validation_update": ds.attrs["trained_update"]}
    return {
        "update": ds.sizes.get("update", ds.attrs["trained_update"]),
        **{key: ds.attrs[key] for key in _KNOWN if key in ds.attrs},
        **{name: float(ds[name].sel(at)) for name in _VALIDATED if name in ds},
        **({"horizon": _horizon(ds)} if "train_horizon" in ds else {}),
    }


def _horizon(ds: Dataset) -> float:
    """How far back the adjoint reaches in the end; infinite if that is beyond the sequence."""
    last = ds["train_horizon"].values[-math.ceil(ds.sizes["update"] / _LAST) :]
    return float(np.median(np.where(np.isnan(last), np.inf, last)))


def summarise(data: Mapping[str, Dataset], folders: Mapping[str, Path]) -> None:
    """Print one row for each training, next to trivial answers, why it ended, and where its files are."""
    results = {label: result(ds) for label, ds in data.items()}
    metrics = dict.fromkeys(found["metric"] for found in results.values() if "metric" in found)
    numbers = ("updates", "horizon", "loss", "validation loss", *([" / ".join(metrics)] if metrics else []))
    made = table("Trained", "", *numbers, numbers=numbers)
    for label, found in results.items():
        made.add_row(label, *_row(found, "update", "horizon", "loss", *_VALIDATED)[: len(numbers)])
    for row in dict.fromkeys(_baseline(found) for found in results.values() if "baseline" in found):
        made.add_row(*row[: 1 + len(numbers)])
    out = console()
    out.print(made)
    out.print("horizon: from this lag on the norm of dL/ds_t is below 1 % of that at lag 0, in the end")
    for label, found in results.items():
        out.print(f"{label}: ended {found['ended']}; saved in {folders[label]}", soft_wrap=True)


def _baseline(found: Mapping[str, Any]) -> tuple[str, ...]:
    name = f"baseline: {found['baseline']}"
    return name, "", "", "", *_row(found, "baseline_loss", "baseline_score")


def _row(found: Mapping[str, Any], *keys: str) -> list[str]:
    return [_number(found[key]) if key in found else "" for key in keys]


def _number(value: float) -> str:
    return f"{value:.4g}" if math.isfinite(value) else "beyond the sequence"
