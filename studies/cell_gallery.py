"""How much of the gradient does every cell keep, as it starts?

Every cell that ships with gradsim, at its default start, with as many units as 1000 parameters allow, on the
same 308 years of sunspots: the root-mean-square gain of ds_t/ds_k, which is 1 for the identity, by lag. What
is square and drawn at random loses the gradient within tens of steps, with gates or without (Elman, GRU,
minimal gates); what holds its state by construction keeps it: orthogonal and unitary weights, oscillators,
slow leaks, forget gates that start open. Shown is the start, and nothing that is learnt; a cell that keeps
all gradients need not be one that learns more.

Lines are medians over four draws of the weights and five years k, 50 years apart; bands reach from 10 % to
90 %. Gains below 1e-20 lie on the lower edge. The number in a panel is that of the units.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from running import Data, run

import gradsim
from gradsim import analysis
from gradsim import plot as plots
from gradsim.contracts import registry
from gradsim_tasks.sunspots import Sunspots

BUDGET = 1000
FLOOR, TOP = -20, 6
COLUMNS = 7
COLOUR = "#0072B2"
WIDTH, HEIGHT = plots.PAGE, 8.6


def cells() -> dict[str, gradsim.Cell]:
    """All shipped cells, by name."""
    return {name: cls() for name, cls in sorted(registry.catalogue().plugins["cells"].items())}


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Gains by lag of each cell."""
    draws, years, max_lag = (1, 40, 30) if quick else (4, 308, 100)
    sources = tuple(range(0, years - max_lag, 50))
    ds = gradsim.compare(
        cells(),
        inputs=Sunspots(length=years).sample(np.random.default_rng(0), 1).inputs,
        match="params",
        budget=BUDGET,
        seeds=draws,
        record=["product_norm"],
        pairs=gradsim.Pairs(sources=sources, max_lag=max_lag),
    )
    return {"cells": analysis.gain_by_lag(ds, apart=("cell",))}


def plot(data: Data) -> Figure:
    """Small multiples in alphabetical order, with one pair of axes."""
    ds = data["cells"]
    count = ds.sizes["cell"]
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        axes = figure.subplots(-(-count // COLUMNS), COLUMNS, sharex=True, sharey=True)
        for i, ax in enumerate(axes.flat):
            ax.set_visible(i < count)
            if i < count:
                _panel(ax, ds.isel(cell=i))
                ax.tick_params(labelbottom=i + COLUMNS >= count)
        figure.supxlabel("Lag $t - k$ (step)", fontsize=8)
        figure.supylabel(r"RMS gain of $\partial s_t / \partial s_k$", fontsize=8)
    return figure


def _panel(ax: Axes, ds: xr.Dataset) -> None:
    log10 = {n: ds[n].clip(FLOOR, None) for n in ("median", "quantiles")}
    low, high = (log10["quantiles"].isel(quantile=i) for i in (0, -1))
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.fill_between(ds["lag"], low, high, color=COLOUR, alpha=0.2, linewidth=0)
    ax.plot(ds["lag"], log10["median"], color=COLOUR)
    ax.set(ylim=(FLOOR, TOP), xlim=(0, int(ds["lag"].max())))
    ax.set_yticks([-20, -10, 0], ["$10^{-20}$", "$10^{-10}$", "1"])
    ax.set_title(str(ds["cell"].item()).replace("_", " "), fontsize=7, pad=3)
    units = f"{ds['hidden_size'].item()}"
    ax.text(0.05, 0.97, units, transform=ax.transAxes, va="top", fontsize=6, color="0.4")


if __name__ == "__main__":
    run(__file__, compute, plot)
