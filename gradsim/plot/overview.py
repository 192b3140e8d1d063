"""A training on one page, finished or not."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, MaxNLocator

from gradsim.analysis.training import log10_of_training, of_training
from gradsim.plot import style
from gradsim.plot.gradients import gradient_norm_curve
from gradsim.plot.heat import borders, colour_key, heat_colorbar, limits_of, paint, thinned
from gradsim.plot.training import loss_curve, score_curve
from gradsim.types import Array

_DOTS = 400
"""Of the horizon, at most."""


def training_overview(ds: xr.Dataset) -> Figure:
    """Draw loss, score, gradient norm and how far back the adjoint reaches, one panel each.

    Works on a training that still goes on: what has not been is left out, and the axes show all updates
    to come. A panel without its variable is left out.
    """
    headline = _headline(ds)
    panels = [draw for needs, draw in _PANELS.items() if _measured(ds, needs)]
    with style.applied():
        rows, last = math.ceil(len(panels) / 2), int(ds["update"][-1])
        figure = style.new_figure(style.PAGE, 0.3 + 2.2 * rows)
        grid = figure.add_gridspec(rows, 2)
        for i, draw in enumerate(panels):
            alone = i == len(panels) - 1 and i % 2 == 0
            ax = draw(ds, figure.add_subplot(grid[i // 2, :] if alone else grid[i // 2, i % 2]))
            ax.set_xlim(-0.01 * last, 1.01 * last + 0.5)
        figure.suptitle(headline, x=0.01, ha="left", fontsize=8)
    return figure


def _measured(ds: xr.Dataset, variable: str) -> bool:
    there = [ds[name] for name in (variable, f"{variable}_log10") if name in ds]
    return variable == "train_loss" or any(bool(array.notnull().any()) for array in there)


def _headline(ds: xr.Dataset) -> str:
    who = [str(ds.attrs[n]) for n in ("cell", "task", "optimizer") if n in ds.attrs]
    loss = of_training(ds, "train_loss")
    done = loss["update"].values[loss.notnull().values]
    return f"{', '.join(who)}: update {max(done, default=0)} of {ds['update'].values[-1]}"


def adjoint_over_updates(ds: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw the norm of dL/ds_t some lags before the last loss, over that at the last loss, by update.

    Colours as in `gain_heat_map`; every recorded lag has a row of the same height. Dots stand at the
    horizon, the lag from which on less than 1 % is left.
    """
    update, lag, values = _relative(ds)
    rows, limits, undefined = np.arange(len(lag)), limits_of(values), np.zeros(values.shape, dtype=bool)
    with style.axes(ax) as ax:
        paint(ax, values, undefined, limits, (borders(update), borders(rows)))
        colour_key(ax, values, undefined, *_horizon(ax, ds, lag))
        if legend := ax.get_legend():
            legend.set_frame_on(True)
        ax.yaxis.set_major_locator(MaxNLocator(11, integer=True))
        ax.yaxis.set_major_formatter(FuncFormatter(lambda row, _: str(lag[int(row)]) if row in rows else ""))
        heat_colorbar([ax], limits, f"Norm of dL/ds_t over that at lag {lag[0]}")
        ax.set(xlabel="Update", ylabel="Lag before the last loss (step)")
    return ax


def _relative(ds: xr.Dataset) -> tuple[Array, Array, Array]:
    """(updates, lags, log10 of the norm over that at the first lag (lag, update)), thinned."""
    log10 = log10_of_training(ds, "train_adjoint_norm").transpose("train_lag", "update")
    log10 = log10.isel(update=thinned(log10.sizes["update"]))
    with np.errstate(invalid="ignore"):
        relative = np.where(np.isneginf(log10), -np.inf, log10.values - log10.values[:1])
    return log10["update"].values, log10["train_lag"].values, relative


def _horizon(ax: Axes, ds: xr.Dataset, lag: Array) -> list[Line2D]:
    if "train_horizon" not in ds:
        return []
    horizon = ds["train_horizon"]
    row = np.interp(horizon, lag, np.arange(len(lag)))
    every = math.ceil(len(horizon) / _DOTS)
    look: dict[str, Any] = {"color": "black", "markersize": 2, "markeredgewidth": 0, "markevery": every}
    return ax.plot(horizon["update"].values, row, "o", label="horizon", rasterized=True, **look)


_PANELS: dict[str, Callable[[xr.Dataset, Axes], Axes]] = {
    "train_loss": loss_curve,
    "validation_score": score_curve,
    "train_gradient_norm": gradient_norm_curve,
    "train_adjoint_norm": adjoint_over_updates,
}
