"""How what the probes of a training measured changes from update to update."""

from __future__ import annotations

import math
from typing import Any

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from gradsim import analysis
from gradsim.analysis.choose import describe, describe_size, values_of
from gradsim.analysis.training import PROBES, made_probes
from gradsim.errors import InputError
from gradsim.plot import style
from gradsim.plot.decades import as_powers
from gradsim.plot.heat import gain_heat_map, heat_colorbar, heat_limits
from gradsim.plot.updates import curve, finish
from gradsim.types import PositiveInt


def gain_by_lag_over_updates(ds: xr.Dataset, ax: Axes | None = None, *, variable: str = "gain") -> Axes:
    """Draw the median gain of P(t, k) against the lag t - k, one line a probe, coloured by its update."""
    gains = analysis.over_probes(ds, lambda probe: analysis.gain_by_lag(probe, variable))
    updates, lag = gains[PROBES].values, gains["lag"].values
    scale = Normalize(updates[0], max(updates[-1], updates[0] + 1))
    with style.axes(ax) as ax:
        for update, median in zip(updates, gains["median"].values, strict=True):
            look = {"color": _sequential()(scale(update)), "linewidth": 0.9}
            curve(ax, lag, median, look)
        ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
        as_powers(ax.yaxis)
        finish(ax, style.typeset(gains.attrs["variable_long_name"]), legend=True)
        ax.set_xlabel(r"Lag $t - k$ (step)")
        _update_bar(ax, scale)
    return ax


def _sequential() -> ListedColormap:
    """The colours of viridis without its lightest tenth, which white paper swallows."""
    return ListedColormap(matplotlib.colormaps["viridis"](np.linspace(0, 0.9, 256)))


def _update_bar(ax: Axes, scale: Normalize) -> None:
    bar = ax.figure.colorbar(ScalarMappable(scale, _sequential()), ax=ax, aspect=30)
    bar.set_label("Update")
    bar.outline.set_linewidth(0.6)
    bar.ax.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)


def lyapunov_over_updates(
    ds: xr.Dataset, ax: Axes | None = None, *, modes: PositiveInt = 3, variable: str = "lyapunov"
) -> Axes:
    """Draw the leading Lyapunov exponents of every probe: mean and range over batch elements."""
    exponents = values_of(made_probes(ds), variable).transpose("mode", PROBES, ...)
    update, values = exponents[PROBES].values, exponents.values.reshape(*exponents.shape[:2], -1)
    with style.axes(ax) as ax:
        for i, (mode, look) in enumerate(zip(values[:modes], style.lines(), strict=False), start=1):
            low, high = mode.min(axis=1), mode.max(axis=1)
            there = np.isfinite(low) & np.isfinite(high)
            ax.fill_between(update, low, high, where=there, color=look["color"], alpha=0.16, linewidth=0)
            curve(ax, update, np.where(there, mode.mean(axis=1), np.nan), look, f"mode {i}")
        ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
        finish(
            ax,
            f"{style.typeset(describe(exponents))} ({exponents.attrs.get('units', '1/step')})",
            legend=True,
        )
    return ax


def gain_heat_maps(ds: xr.Dataset, count: int = 6, *, variable: str = "gain", batch: int = 0) -> Figure:
    """Draw the gain of P(t, k) at up to `count` probes from the first to the last, on one colour scale."""
    if count < 1:
        raise InputError(f"gain_heat_maps: count should be 1 or more (got {count})")
    probes = spread_probes(ds, count)
    limits = heat_limits(*probes, variable=variable, batch=batch)
    rows = math.ceil(len(probes) / 3)
    columns = math.ceil(len(probes) / rows)
    with style.applied():
        figure = style.new_figure(style.PAGE if columns > 1 else style.COLUMN, 0.7 + 2.1 * rows)
        axes = figure.subplots(rows, columns, squeeze=False).ravel()
        for i, (ax, probe) in enumerate(zip(axes, probes, strict=False)):
            panel(ax, probe, limits, variable=variable, batch=batch)
            if i % columns:
                ax.set_ylabel("")
            if i + columns < len(probes):
                ax.set_xlabel("")
        for ax in axes[len(probes) :]:
            ax.set_axis_off()
        _common_key(figure)
        heat_colorbar(list(axes), limits, describe_size(probes[0], variable), shrink=0.9)
    return figure


def spread_probes(ds: xr.Dataset, count: int | None = None) -> list[xr.Dataset]:
    """Up to `count` probes, all if left out, from the first to the last at even distances."""
    probes = made_probes(ds)
    made = probes.sizes[PROBES]
    chosen = np.unique(np.linspace(0, made - 1, min(count or made, made)).round().astype(int))
    return [probes.isel({PROBES: i}) for i in chosen]


def panel(ax: Axes, probe: xr.Dataset, limits: tuple[float, float], **options: Any) -> None:
    """The heat map of one probe, named by its update."""
    gain_heat_map(probe, ax, limits=limits, colorbar=False, **options)
    ax.set_title(f"Update {int(probe[PROBES])}")
    ax.set_box_aspect(1)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_locator(MaxNLocator(5, integer=True))


def _common_key(figure: Figure) -> None:
    """One key below the panels in place of one in each."""
    handles: dict[str, Artist] = {}
    for ax in figure.axes:
        if legend := ax.get_legend():
            handles |= {str(h.get_label()): h for h in legend.legend_handles if h is not None}
            legend.remove()
    if handles:
        figure.legend(
            handles=handles.values(),
            loc="outside lower center",
            ncols=len(handles),
            handlelength=1.2,
            handleheight=1.2,
        )
