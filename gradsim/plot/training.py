"""How a training went: loss, score and spectral radius against the update."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gradsim.analysis.training import of_training
from gradsim.plot import style
from gradsim.plot.decades import as_powers
from gradsim.plot.updates import Runs, by_label, curve, finish, heights, noisy, spans_a_decade


def loss_curve(
    runs: Runs,
    ax: Axes | None = None,
    *,
    smooth: int | None = None,
    log_y: bool | None = None,
    log_x: bool = False,
    legend: bool = True,
) -> Axes:
    """Draw the training loss, faint and as running median, the validation loss, and the baseline.

    Parameters
    ----------
    runs
        A training, or several by label.
    smooth
        How many updates the running median takes, odd; 1 for none. Left out: a 25th of all.
    log_y
        The axis shows log10 of the loss. Left out: if the losses span more than a decade.
    log_x
        A logarithmic axis of updates, which has no place for update 0.
    """
    named = by_label(runs, "loss_curve")
    log = spans_a_decade(a.values for ds in named.values() for a in _losses(ds)) if log_y is None else log_y
    with style.axes(ax) as ax:
        looks = style.lines()
        for label, ds in named.items():
            look = next(looks)
            if "train_loss" in ds:
                y = heights(ds["train_loss"].values, log)
                noisy(ax, ds["train_loss"], y, smooth, look, label or "training")
            if "validation_loss" in ds:
                _draw_validation(ax, ds["validation_loss"], log, look if label else next(looks), label)
        if any(label and "validation_loss" in ds for label, ds in named.items()):
            ax.plot([], [], color="0.35", label="validation", marker="o", markeredgewidth=0, **_SELDOM)
        _draw_baselines(ax, named.values(), "loss", log)
        if log:
            as_powers(ax.yaxis)
        finish(ax, _with_units("Loss", _losses(next(iter(named.values())))[0]), legend, log_x)
    return ax


_SELDOM: dict[str, Any] = {"linewidth": 0.8, "linestyle": (0, (1.2, 1.2))}


def _losses(ds: xr.Dataset) -> list[xr.DataArray]:
    return [ds[v] for v in ("train_loss", "validation_loss") if v in ds] or [of_training(ds, "train_loss")]


def _draw_validation(ax: Axes, loss: xr.DataArray, log: bool, look: dict[str, Any], label: str) -> None:
    update, y = loss["validation_update"].values, heights(loss.values, log)
    curve(ax, update, y, look | _SELDOM, None if label else "validation")


def _draw_baselines(ax: Axes, runs: Iterable[xr.Dataset], what: str, log: bool = False) -> None:
    """What trivial answers get, each once, as a dashed line across."""
    key = f"baseline_{what}"
    found = {(str(ds.attrs.get("baseline", "")), float(ds.attrs[key])) for ds in runs if key in ds.attrs}
    for name, value in sorted(found):
        y = float(heights(np.array(value), log))
        if np.isfinite(y):
            label = f"baseline: {name}" if name else "baseline"
            ax.axhline(y, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1, label=label)


def _with_units(text: str, values: xr.DataArray) -> str:
    units = values.attrs.get("units", "1")
    return style.typeset(text) if units in ("", "1") else f"{style.typeset(text)} ({units})"


def score_curve(runs: Runs, ax: Axes | None = None, *, log_x: bool = False, legend: bool = True) -> Axes:
    """Draw the validation score, by the metric of the task, and that of the baseline."""
    named = by_label(runs, "score_curve")
    scores = {label: of_training(ds, "validation_score") for label, ds in named.items()}
    with style.axes(ax) as ax:
        for (label, score), look in zip(scores.items(), style.lines(), strict=False):
            curve(ax, score["validation_update"].values, score.values, look, label or None)
        _draw_baselines(ax, named.values(), "score")
        metrics = dict.fromkeys(str(ds.attrs.get("metric", "score")) for ds in named.values())
        finish(ax, _with_units(" / ".join(metrics), next(iter(scores.values()))), legend, log_x)
    return ax


def spectral_radius_curve(
    runs: Runs, ax: Axes | None = None, *, log_x: bool = False, legend: bool = True
) -> Axes:
    """Draw the spectral radius of the recurrent weights, block by block, where it was computed."""
    radii = _radii(by_label(runs, "spectral_radius_curve"))
    log = spans_a_decade(radius.values for radius in radii.values())
    with style.axes(ax) as ax:
        for (label, radius), look in zip(radii.items(), style.lines(), strict=False):
            curve(ax, radius["update"].values, heights(radius.values, log), look, label)
        ax.axhline(float(heights(np.array(1.0), log)), color="0.6", linewidth=0.5, zorder=0)
        if log:
            as_powers(ax.yaxis)
        finish(ax, "Spectral radius", legend and len(radii) > 1, log_x)
    return ax


def _radii(named: Mapping[str, xr.Dataset]) -> dict[str, xr.DataArray]:
    """By run and block of weights, at the updates where they were computed."""
    found = {}
    for label, ds in named.items():
        radius = of_training(ds, "spectral_radius")
        for block in radius["weight_block"].values:
            several = radius.sizes["weight_block"] > 1
            name = ", ".join(([label] if label else []) + ([str(block)] if several or not label else []))
            found[name] = radius.sel(weight_block=block).dropna("update")
    return found
