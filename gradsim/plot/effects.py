"""Mitigations side by side: the gain by lag under each, and bias against cost."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, Literal

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradsim import analysis
from gradsim.analysis.choose import GAINS, describe_size, has, log10_of
from gradsim.errors import InputError
from gradsim.plot import style
from gradsim.plot.decades import DecadeLocator, as_powers
from gradsim.plot.lines import around_one, gain_line

_NONE = "none"
_EFFECTIVE = "effective: "


def gain_by_lag_of_mitigations(ds: xr.Dataset, *, band: bool = False) -> Figure:
    """Draw the median gain against the lag, a panel for each cell and a line for each choice of mitigations.

    Full lines are raw: that without mitigations, and that of cells which mitigations change. Dashed ones are
    effective, where there are effective products and they are not the raw ones.

    Parameters
    ----------
    band
        As in `gain_by_lag`.
    """
    _refuse_none(ds, "gain_by_lag_of_mitigations")
    cells = [str(cell) for cell in ds["cell"].values]
    looks = dict(zip((str(m) for m in ds["mitigation"].values), _looks(), strict=False))
    with style.applied():
        figure = style.new_figure(min(style.PAGE, 2.5 + 2.2 * len(cells)), 2.6)
        axes = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
        shown: dict[str, Any] = {}
        for cell, ax in zip(cells, axes, strict=True):
            for label, (line, dashed) in _lines(ds.sel(cell=cell)):
                look = looks[label.removeprefix(_EFFECTIVE)]
                gain_line(ax, line, {**look, "linestyle": "--" if dashed else "-"}, label, band=band)
            around_one(ax, style.typeset(f"median {describe_size(ds, 'gain')}") if ax is axes[0] else "")
            ax.set_title(cell)
            handles, labels = ax.get_legend_handles_labels()
            shown |= dict(zip(labels, handles, strict=True))
        figure.legend(shown.values(), shown.keys(), loc="outside right upper", fontsize=7)
    return figure


def _looks() -> Iterator[dict[str, Any]]:
    """Colours and markers, as dashes tell something else; a colour that comes again has another marker."""
    count = len(style.COLOURS)
    own = list(itertools.islice(style.lines(), count))
    for i in itertools.count():
        yield {"color": own[i % count]["color"], "marker": own[(i + i // count) % count]["marker"]}


def _lines(ds: xr.Dataset) -> Iterator[tuple[str, tuple[xr.Dataset, bool]]]:
    """Label -> what a line shows, and whether it is of effective products."""
    raw = log10_of(ds, "gain")
    effective = log10_of(ds, "effective_gain") if has(ds, GAINS["effective_gain"][0]) else None
    for label in map(str, ds["mitigation"].values):
        own = raw.sel(mitigation=label)
        if label == _NONE or not _same(own, raw.sel(mitigation=_NONE)):
            yield label, (_by_lag(ds, label, "gain"), False)
        if effective is not None:
            changed = effective.sel(mitigation=label)
            if bool(changed.notnull().any()) and not _same(changed, own):
                yield f"{_EFFECTIVE}{label}", (_by_lag(ds, label, "effective_gain"), True)


def _same(one: xr.DataArray, other: xr.DataArray) -> bool:
    return np.array_equal(one.values, other.values, equal_nan=True)


def _by_lag(ds: xr.Dataset, label: str, gain: str) -> xr.Dataset:
    return analysis.gain_by_lag(ds.sel(mitigation=label), gain, apart=())


def bias_against_cost(
    ds: xr.Dataset,
    ax: Axes | None = None,
    *,
    cost: Literal["gradient_seconds", "backward_flops", "memory_bytes"] = "gradient_seconds",
) -> Axes:
    """Draw the bias of the gradient against what it costs, relative to no mitigation: lower left is better.

    A colour for each cell, a letter for each choice of mitigations. What has no bias, or less than rounding,
    lies on the line at the bottom.

    Parameters
    ----------
    cost
        What is on the horizontal axis. Seconds are measured and differ from run to run; the others are
        planned, and a rule need not say its operations.
    """
    _refuse_none(ds, "bias_against_cost")
    table = analysis.effects(ds)
    for needed in ("bias", cost):
        if needed not in table:
            raise InputError("bias_against_cost: the dataset has no gradient_bias: add it to record=")
    with style.axes(ax, 4.8, 3.0) as ax:
        relative = log10_of((table[cost] / table[cost].sel(mitigation=_NONE)).to_dataset(name="of"), "of")
        heights = log10_of(table, "bias")
        floor = _floor(heights.values)
        points: list[_Named] = []
        for cell, look in zip(table["cell"].values, _looks(), strict=False):
            x, y = relative.sel(cell=cell).values, np.fmax(heights.sel(cell=cell).values, floor)
            ax.plot(x, y, linestyle="", markersize=5, alpha=0.8, markeredgewidth=0, label=str(cell), **look)
            points += [(at, letter) for at, letter in zip(zip(x, y, strict=True), _letters(), strict=False)]
        ax.axhline(floor, color="0.6", linewidth=0.5, zorder=0)
        ax.text(0, floor, "exact ", transform=ax.get_yaxis_transform(), ha="right", va="center", fontsize=7)
        ax.set(
            xlabel=f"{_COSTS[cost]}, over that without mitigations", ylabel="Relative bias of the gradient"
        )
        for axis in (ax.xaxis, ax.yaxis):
            as_powers(axis)
        ax.set_ylim(floor - 0.3, max(ax.get_ylim()[1], floor + 0.3))
        for at, letters in _together(ax, points):
            ax.annotate(letters, at, (3, 2), textcoords="offset points", fontsize=7, **_INK)
        ax.yaxis.set_major_locator(_Above(floor))
        ax.yaxis.set_minor_locator(_Above(floor, minor=True))
        names = [f"{a}: {m}" for a, m in zip(_letters(), table["mitigation"].values, strict=False)]
        cells = ax.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0))
        ax.add_artist(cells)
        below = 1 - 0.085 * (len(table["cell"]) + 1)
        ax.text(1.03, below, "\n".join(names), transform=ax.transAxes, va="top", fontsize=7)
    return ax


class _Above(DecadeLocator):
    """Ticks where there is a bias."""

    def __init__(self, floor: float, minor: bool = False) -> None:
        super().__init__(minor)
        self.floor = floor

    def tick_values(self, vmin: float, vmax: float) -> Any:
        """Those between two log10 values."""
        found = super().tick_values(vmin, vmax)
        return found[found > self.floor + 0.2]


_INK: dict[str, Any] = {"color": "0.2"}
_COSTS = {
    "gradient_seconds": "Seconds of a gradient",
    "backward_flops": "Operations of the way back",
    "memory_bytes": "Bytes of a gradient",
}
_ROUNDING = -15.0
_Named = tuple[tuple[float, float], str]
"""A point and its letter."""


def _letters() -> Iterator[str]:
    i = 0
    while True:
        yield chr(ord("a") + i % 26) * (1 + i // 26)
        i += 1


def _together(ax: Axes, points: Iterable[_Named]) -> Iterator[_Named]:
    """Where to write which letters: in one where points are so near that their letters would overlap."""
    ax.autoscale_view()
    groups: list[list[_Named]] = []
    for at, letter in sorted(point for point in points if np.isfinite(point[0]).all()):
        for group in groups:
            off = ax.transData.transform(at) - ax.transData.transform(group[-1][0])
            if (np.abs(off) * 72 / ax.figure.dpi < _APART).all():
                group.append((at, letter))
                break
        else:
            groups.append([(at, letter)])
    for group in groups:
        yield group[-1][0], ",".join(sorted({letter for _, letter in group}))


_APART = (7.0, 4.0)
"""Points across and up; letters of points further apart can both be read."""


def _floor(heights: Any) -> float:
    """Where what has no bias is drawn: below all that has some."""
    there = heights[np.isfinite(heights) & (heights > _ROUNDING)]
    return float(np.floor(there.min(initial=0.0)) - 1)


def _refuse_none(ds: xr.Dataset, who: str) -> None:
    if not {"mitigation", "cell"} <= set(ds.dims):
        raise InputError(f"{who}: a comparison with mitigations is needed; give compare() some")
