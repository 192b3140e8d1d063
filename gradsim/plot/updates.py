"""Lines against the update: what the figures of a training share."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gradsim import analysis
from gradsim.errors import InputError
from gradsim.types import Array

Runs = xr.Dataset | Mapping[str, xr.Dataset]
"""One dataset, or several by label."""

MANY = 2000
"""Points from which on a line is stored as pixels, not as a path, in an SVG."""

_MARKS = 25
"""Markers on a line, at most."""

_NARROW = 18
"""Letters of a label, two of which stand beside each other in one column of a page."""

FAINT: dict[str, Any] = {"alpha": 0.35, "linewidth": 0.6}


def by_label(runs: Runs, figure: str) -> dict[str, xr.Dataset]:
    """The runs by their labels; a single one has none."""
    named = {"": runs} if isinstance(runs, xr.Dataset) else dict(runs)
    if not named:
        raise InputError(f"{figure}: there is no run to draw")
    return named


def spans_a_decade(arrays: Iterable[Array]) -> bool:
    """Whether values are better shown by their log10: they reach over a decade, and none is negative."""
    values = np.concatenate([np.ravel(a) for a in arrays])
    positive = values[np.isfinite(values) & (values > 0)]
    return bool(len(positive) and not (values < 0).any() and positive.max() / 10 > positive.min())


def heights(values: Array, log: bool) -> Array:
    """The values, or their log10: -inf for an exact zero, NaN for less."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.log10(values) if log else np.asarray(values, dtype=np.float64)


def curve(ax: Axes, x: Array, y: Array, look: dict[str, Any], label: str | None = None) -> None:
    """A line with gaps where values are missing, dots where both neighbours are.

    What has no height stands at the edge: log10 of an exact zero at the bottom, infinity at the top.
    """
    finite = np.isfinite(y)
    spaced: dict[str, Any] = {"rasterized": len(x) > MANY, "markevery": math.ceil(len(x) / _MARKS) or None}
    ax.plot(x, np.where(finite, y, np.nan), label=label, **spaced, **look)
    padded = np.pad(finite, 1)
    alone = finite & ~padded[:-2] & ~padded[2:]
    if look.get("marker", "") == "" and alone.any():
        ax.plot(x[alone], y[alone], ".", color=look["color"], markersize=4)
    _at_edge(ax, x[np.isneginf(y)], 0.05, "v", look["color"], "exactly 0")
    _at_edge(ax, x[np.isposinf(y)], 1.0, "^", look["color"], "infinite")


def _at_edge(ax: Axes, x: Array, height: float, marker: str, colour: str, label: str) -> None:
    if len(x):
        once = None if label in ax.get_legend_handles_labels()[1] else label
        across = ax.get_xaxis_transform()
        look: dict[str, Any] = {"color": colour, "markersize": 3, "clip_on": False}
        ax.plot(x, np.full(len(x), height), marker, transform=across, label=once, **look)


def noisy(
    ax: Axes, values: xr.DataArray, y: Array, smooth: int | None, look: dict[str, Any], label: str | None
) -> None:
    """Heights by update, faint, and their running median."""
    x, median = values["update"].values, median_of(values, y, smooth)
    if median is not y:
        curve(ax, x, y, look | FAINT | {"linestyle": "-", "marker": ""})
    curve(ax, x, median, look | {"marker": ""}, label)


def median_of(values: xr.DataArray, y: Array, smooth: int | None) -> Array:
    """The running median of heights, over a 25th of all updates unless told."""
    over = len(y) // 25 | 1 if smooth is None else smooth
    return y if over == 1 else np.asarray(analysis.smoothed(values.copy(data=y), over).values)


def finish(ax: Axes, ylabel: str, legend: bool, log_x: bool = False) -> None:
    """The labels, the scale of the updates and, where there is something to tell apart, the key."""
    ax.set(xlabel="Update", ylabel=ylabel)
    if log_x:
        ax.set_xscale("log", nonpositive="mask")
    ax.margins(x=0.01)
    if legend and ax.get_legend_handles_labels()[1]:
        ax.legend()


def finish_full(ax: Axes, ylabel: str, legend: bool, log_x: bool) -> None:
    """The same, for lines that leave no room for the key: it stands above them."""
    finish(ax, ylabel, False, log_x)
    if legend and (labels := ax.get_legend_handles_labels()[1]):
        columns = 2 if max(map(len, labels)) <= _NARROW else 1
        low, high = ax.get_ylim()
        ax.set_ylim(top=high + 0.09 * math.ceil(len(labels) / columns) * (high - low), auto=None)
        ax.legend(loc="upper right", ncols=columns, columnspacing=1.2)
