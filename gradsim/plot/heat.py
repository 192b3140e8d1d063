"""The gain of every P(t, k) as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
import xarray as xr
from annotated_types import MinLen
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colorbar import Colorbar
from matplotlib.colors import Normalize
from matplotlib.patches import Patch, Rectangle

from gradsim.analysis.choose import describe_size, log10_of
from gradsim.errors import InputError
from gradsim.plot import style
from gradsim.plot.colours import ZERO, diverging
from gradsim.plot.decades import as_powers
from gradsim.types import Array

_PIXELS = 1200
"""Cells along an axis; a longer record is thinned to them."""

_HATCH: dict[str, Any] = {"facecolor": "white", "edgecolor": "0.72", "hatch": "/////", "linewidth": 0}


def gain_heat_map(
    ds: xr.Dataset,
    ax: Axes | None = None,
    *,
    variable: str = "gain",
    batch: int = 0,
    limits: tuple[float, float] | None = None,
    colorbar: bool = True,
    key: bool = True,
) -> Axes:
    """Draw the gain of P(t, k) over source k and time t.

    Colours are those of log10 of the gain: light grey at 1, blue where it vanishes, red where it
    explodes, always around 1, so that the same colour never means the opposite in another figure.
    An exact zero is black, a pair that was not computed hatched, t < k, where there is no product,
    empty; `key` explains the ones that occur.

    Parameters
    ----------
    variable
        Any size of pairs (t, k), such as `effective_gain` or `product_spectral_norm`.
    batch
        Position of the batch element.
    limits
        Least and greatest log10 of the colour scale, to share one between figures (`heat_limits`).
    """
    log10 = log10_of(ds, variable)
    times, sources, values = _image(_element(log10, batch))
    limits = limits_of(values) if limits is None else limits
    with style.axes(ax, style.COLUMN, 2.9) as ax:
        edges = (borders(sources), borders(times))
        ax.set_facecolor("white")
        undefined = times[:, None] < sources
        paint(ax, values, undefined, limits, edges)
        ax.set(xlabel=r"Source $k$ (step)", ylabel=r"Time $t$ (step)")
        if key:
            colour_key(ax, values, undefined)
        if colorbar:
            heat_colorbar([ax], limits, describe_size(ds, variable))
    return ax


def heat_limits(*datasets: xr.Dataset, variable: str = "gain", batch: int = 0) -> tuple[float, float]:
    """The least and the greatest log10 of the gains of several datasets, and 0."""
    each = [limits_of(_element(log10_of(ds, variable), batch).values) for ds in datasets]
    return min(low for low, _ in each), max(high for _, high in each)


def heat_colorbar(
    axes: Annotated[Sequence[Axes], MinLen(1)], limits: tuple[float, float], label: str, **options: Any
) -> Colorbar:
    """The colour scale of heat maps that share these limits, beside them."""
    bar = axes[0].figure.colorbar(ScalarMappable(_norm(limits), diverging()), ax=list(axes), **options)
    bar.set_label(style.typeset(label))
    bar.outline.set_linewidth(0.6)
    bar.ax.set_ylim(*limits)
    bar.ax.tick_params(labelsize=7, width=0.6, length=2.5)
    as_powers(bar.ax.yaxis, minor=False)
    bar.ax.axhline(0, color="0.3", linewidth=0.6)
    return bar


def _norm(limits: tuple[float, float]) -> Normalize:
    reach = max(abs(limits[0]), abs(limits[1]))
    return Normalize(-reach, reach)


def limits_of(values: Array) -> tuple[float, float]:
    """Around 1, wide enough to show at least one decade."""
    finite = values[np.isfinite(values)]
    if not len(finite):
        return -1.0, 1.0
    low, high = min(float(finite.min()), 0.0), max(float(finite.max()), 0.0)
    return (low, high) if high - low >= 1 else (low - 0.5, high + 0.5)


def element(values: xr.DataArray, batch: int) -> xr.DataArray:
    """One batch element, where there are several."""
    if "batch" not in values.dims:
        return values
    if not -values.sizes["batch"] <= batch < values.sizes["batch"]:
        raise InputError(f"batch should be below {values.sizes['batch']} (got {batch})")
    return values.isel(batch=batch)


def _element(log10: xr.DataArray, batch: int) -> xr.DataArray:
    """One batch element; what is left is the two dims of pairs."""
    log10 = element(log10, batch)
    if log10.ndim != 2 or "source" not in log10.dims:
        raise InputError(
            f"{log10.name} has dims {log10.dims}; a heat map needs one value for each pair (t, k)"
        )
    return log10


def _image(log10: xr.DataArray) -> tuple[Array, Array, Array]:
    """(times, sources, values (time, source)), thinned; NaN where not computed."""
    sources = log10["source"].values
    if "lag" in log10.dims:
        return _unbanded(log10, sources)
    (time,) = (d for d in log10.dims if d != "source")
    array = log10.transpose(time, "source")
    rows, columns = (thinned(array.sizes[d]) for d in (time, "source"))
    return array[time].values[rows], sources[columns], array.values[np.ix_(rows, columns)]


def _unbanded(log10: xr.DataArray, sources: Array) -> tuple[Array, Array, Array]:
    array = log10.transpose("source", "lag")
    last = int((sources[:, None] + array["lag"].values)[array.notnull().values].max(initial=0))
    times, columns = np.arange(sources[0], max(last, sources[-1]) + 1), thinned(len(sources))
    times = times[thinned(len(times))]
    lag = times[:, None] - sources[columns]
    recorded = array["lag"].values
    place = np.minimum(np.searchsorted(recorded, lag), len(recorded) - 1)
    values = np.where(recorded[place] == lag, array.values[columns, place], np.nan)
    return times, sources[columns], values


def thinned(size: int) -> Array:
    """Evenly spaced positions of an axis, so many as can be told apart."""
    return np.arange(0, size, -(-size // _PIXELS))


def borders(centres: Array) -> Array:
    """Borders of cells around these centres."""
    if len(centres) == 1:
        return np.array([centres[0] - 0.5, centres[0] + 0.5])
    middle = (centres[1:] + centres[:-1]) / 2
    return np.concatenate(
        [[1.5 * centres[0] - 0.5 * centres[1]], middle, [1.5 * centres[-1] - 0.5 * centres[-2]]]
    )


def paint(
    ax: Axes, values: Array, undefined: Array, limits: tuple[float, float], edges: tuple[Array, Array]
) -> None:
    """Colour the cells between these edges; zero is black, and what is not computed is hatched."""
    x, y = edges
    frame = Rectangle((x[0], y[0]), x[-1] - x[0], y[-1] - y[0], zorder=0, **_HATCH)
    rgba = diverging()(_norm(limits)(np.nan_to_num(values, nan=0.0, neginf=0.0)))
    rgba[np.isneginf(values)] = (0, 0, 0, 1)
    rgba[np.isnan(values)] = (1, 1, 1, 0)
    rgba[undefined] = (1, 1, 1, 1)
    if (np.isnan(values) & ~undefined).any():
        ax.add_patch(frame)
    ax.pcolormesh(x, y, rgba, rasterized=True, zorder=1)
    ax.set(xlim=(x[0], x[-1]), ylim=(y[0], y[-1]))


def colour_key(ax: Axes, values: Array, undefined: Array, *more: Artist) -> None:
    """What the colours without a place on the colour scale mean, in the empty corner."""
    shown = {
        "exactly 0": (np.isneginf(values).any(), {"facecolor": ZERO}),
        "not computed": ((np.isnan(values) & ~undefined).any(), _HATCH),
        r"no product ($t < k$)": (
            undefined.any(),
            {"facecolor": "white", "edgecolor": "0.5", "linewidth": 0.5},
        ),
    }
    handles: list[Artist] = [Patch(label=label, **look) for label, (occurs, look) in shown.items() if occurs]
    handles += more
    if handles:
        ax.legend(handles=handles, loc="lower right", handlelength=1.2, handleheight=1.2, borderaxespad=0.3)
