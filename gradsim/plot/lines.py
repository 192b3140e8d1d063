"""Gains, norms and exponents as lines: against the lag, through time, by mode."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import matplotlib
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.ticker import MaxNLocator

from gradsim import analysis
from gradsim.analysis.choose import GAINS, describe, describe_size, has, log10_of, values_of
from gradsim.analysis.lags import spread
from gradsim.errors import InputError
from gradsim.plot import style
from gradsim.plot.decades import as_powers
from gradsim.plot.heat import element
from gradsim.types import Array

_BAND = (0.1, 0.9)


def gain_by_lag(
    runs: xr.Dataset | Mapping[str, xr.Dataset],
    ax: Axes | None = None,
    *,
    variable: str = "gain",
    band: bool = True,
    effective: bool = False,
    legend: bool = True,
) -> Axes:
    """Draw the median gain of P(t, k) against the lag t - k, with the range from 10 % to 90 %.

    Parameters
    ----------
    runs
        By label; datasets with the norm, or what `analysis.gain_by_lag` made of them. Of a comparison a line
        for each cell, all seeds together.
    band
        Shade the quantiles around the median.
    effective
        Draw the effective gain of each, where it was recorded, as a dashed line beside the raw one.
    """
    named = _by_cell(runs) if isinstance(runs, xr.Dataset) else dict(runs)
    if not named:
        raise InputError("gain_by_lag: there is no run to draw")
    summaries = {
        n: ds if "median" in ds else analysis.gain_by_lag(ds, variable, apart=()) for n, ds in named.items()
    }
    with style.axes(ax) as ax:
        for (label, summary), look in zip(summaries.items(), style.lines(), strict=False):
            gain_line(ax, summary, look, label, band=band)
            if effective and has(named[label], GAINS["effective_gain"][0]):
                changed = analysis.gain_by_lag(named[label], "effective_gain", apart=())
                dashed = {
                    **look,
                    "linestyle": (0, (2, 1)),
                    "markerfacecolor": "white",
                    "markeredgewidth": 0.8,
                }
                what = f"{label}, effective" if label else "effective"
                gain_line(ax, changed, dashed, what, band=band)
        around_one(ax, _shared_label(summaries))
        if legend and any(named):
            ax.legend()
    return ax


def around_one(ax: Axes, label: str) -> None:
    """Let axes show powers of ten against the lag, with a line at 1."""
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set(xlabel=r"Lag $t - k$ (step)", ylabel=label)
    ax.margins(x=0.01)
    as_powers(ax.yaxis)


def _by_cell(ds: xr.Dataset) -> dict[str, xr.Dataset]:
    if "cell" in ds.dims:
        return {str(label): ds.sel(cell=label) for label in ds["cell"].values}
    return {str(ds.attrs.get("cell", "")): ds}


def _shared_label(summaries: Mapping[str, xr.Dataset]) -> str:
    """What all are; of those that differ, such as gains between other blocks, what they are before "of"."""
    labels = dict.fromkeys(str(summary.attrs["variable_long_name"]) for summary in summaries.values())
    if len(labels) > 1:
        labels = dict.fromkeys(label.partition(" of ")[0] for label in labels)
    return style.typeset(" / ".join(labels))


def gain_line(ax: Axes, summary: xr.Dataset, look: Mapping[str, object], label: str, *, band: bool) -> None:
    """Draw what `analysis.gain_by_lag` made of a run."""
    around = summary["quantiles"].values if band else None
    _line(ax, summary["lag"].values, summary["median"].values, around, look, label)


def _line(
    ax: Axes, x: Array, median: Array, around: Array | None, look: Mapping[str, object], label: str
) -> None:
    """A median with markers here and there, its band, and an arrow where it falls to exactly zero."""
    finite = np.isfinite(median)
    every = max(1, math.ceil(len(x) / 8))
    ax.plot(x, np.where(finite, median, np.nan), label=label, markevery=every, **look)  # type: ignore[arg-type]
    colour = str(look["color"])
    if around is not None:
        _band(ax, x, around[0], around[-1], colour)
    falls = np.flatnonzero(finite[:-1] & np.isneginf(median[1:]))
    for i in falls:
        ax.annotate(
            "0",
            (x[i], median[i]),
            (0, -16),
            textcoords="offset points",
            ha="center",
            color=colour,
            fontsize=7,
            arrowprops={"arrowstyle": "<-", "color": colour, "linewidth": 0.8, "shrinkA": 0, "shrinkB": 1},
        )


def _band(ax: Axes, x: Array, low: Array, high: Array, colour: str) -> None:
    """Shade between quantiles; one that is exactly zero reaches to the lowest that is not."""
    there = np.isfinite(high)
    if there.any():
        lowest = low[np.isfinite(low)].min(initial=high[there].min())
        low = np.maximum(low, lowest)
        ax.fill_between(x, low, high, where=there, color=colour, alpha=0.16, linewidth=0)


def adjoint(
    runs: xr.Dataset | Mapping[str, xr.Dataset], ax: Axes | None = None, *, legend: bool = True
) -> Axes:
    """Draw the norm of the adjoint dL/ds_t through time, raw and as changed by the mitigations.

    The median over batch elements and the range from 10 % to 90 %. Needs the recorders
    `adjoint_norm` and, for after the mitigations, `effective_adjoint_norm`.

    Parameters
    ----------
    runs
        One dataset, or several by label, which differ in their mitigations; the raw adjoint is that
        of the first one.
    """
    named = {_mitigated(runs): runs} if isinstance(runs, xr.Dataset) else dict(runs)
    if not named:
        raise InputError("adjoint: there is no run to draw")
    first = next(iter(named.values()))
    sizes = {"raw": log10_of(first, "adjoint_norm")} if has(first, "adjoint_norm") else {}
    sizes |= {
        label: log10_of(ds, "effective_adjoint_norm")
        for label, ds in named.items()
        if has(ds, "effective_adjoint_norm")
    }
    if not sizes:
        values_of(first, "adjoint_norm")
    with style.axes(ax) as ax:
        for (label, log10), look in zip(sizes.items(), style.lines(), strict=False):
            line_with_band(ax, log10, look, label)
        what = describe(next(iter(sizes.values()))).removeprefix("log10 of the ").removeprefix("effective ")
        ax.set(xlabel=r"Time $t$ (step)", ylabel=style.typeset(what))
        ax.margins(x=0.01)
        as_powers(ax.yaxis)
        if legend and len(sizes) > 1:
            ax.legend()
    return ax


def _mitigated(ds: xr.Dataset) -> str:
    names = re.sub(r"\w+: ", "", ds.attrs.get("mitigations", "none"))  # without the phases
    return f"effective ({names})"


def line_with_band(ax: Axes, log10: xr.DataArray, look: Mapping[str, object], label: str) -> None:
    """Draw log10 sizes against their first dim: the median over the other dims, and 10 % to 90 %."""
    along = log10.dims[0]
    levels = spread(log10, list(log10.dims[1:]), (0.5, *_BAND)).values
    around = levels[1:] if log10.size > log10.sizes[along] else None
    _line(ax, log10[along].values, levels[0], around, look, label)


def singular_value_fan(
    ds: xr.Dataset,
    source: int = 0,
    ax: Axes | None = None,
    *,
    variable: str = "product_spectrum",
    batch: int = 0,
) -> Axes:
    """Draw all singular values of P(t, k) of one source k against time t, from the largest down.

    A line ends where floating point cannot resolve the value.
    """
    log10 = log10_of(ds, variable)
    if source not in log10["source"]:
        raise InputError(f"source should be one of {log10['source'].values.tolist()} (got {source})")
    log10 = element(log10, batch).sel(source=source)
    (along,) = (d for d in log10.dims if d not in ("mode", "chosen_mode"))
    values = log10.transpose(..., along).values
    time = log10[along].values + (source if along == "lag" else 0)
    modes, colours = len(values), matplotlib.colormaps["viridis"]
    with style.axes(ax) as ax:
        for i, line in enumerate(values):
            shade = colours(0.92 * i / max(modes - 1, 1))
            ax.plot(time, np.where(np.isfinite(line), line, np.nan), color=shade, linewidth=0.8)
        ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
        label = style.typeset(describe_size(ds, variable)).replace("s_k", f"s_{{{source}}}")
        ax.set(xlabel=r"Time $t$ (step)", ylabel=label)
        ax.margins(x=0.01)
        as_powers(ax.yaxis)
        if modes > 1:
            _mode_bar(ax, modes)
    return ax


def _mode_bar(ax: Axes, modes: int) -> None:
    shown = matplotlib.colormaps["viridis"](np.linspace(0, 0.92, modes))
    colours = matplotlib.colors.ListedColormap(shown)
    bar = ax.figure.colorbar(ScalarMappable(Normalize(0.5, modes + 0.5), colours), ax=ax, aspect=30)
    bar.set_label("Mode, from the largest")
    bar.ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)
    bar.ax.invert_yaxis()


def lyapunov(ds: xr.Dataset, ax: Axes | None = None, *, variable: str = "lyapunov") -> Axes:
    """Draw the finite-time Lyapunov exponents by mode: mean and range over batch elements."""
    exponents = values_of(ds, variable).transpose("mode", ...)
    values = exponents.values.reshape(len(exponents), -1)
    finite = np.isfinite(values).all(axis=1)
    mode, kept = np.arange(1, len(values) + 1)[finite], values[finite]
    with style.axes(ax) as ax:
        look = next(style.lines())
        mean = kept.mean(axis=1)
        reach = np.abs(np.stack([kept.min(axis=1), kept.max(axis=1)]) - mean)
        ax.errorbar(mode, mean, reach, fmt="o", color=look["color"], markersize=2.5, elinewidth=0.8)
        ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
        ax.set(
            xlabel="Mode",
            ylabel=f"{style.typeset(describe(exponents))} ({exponents.attrs.get('units', '1/step')})",
        )
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
