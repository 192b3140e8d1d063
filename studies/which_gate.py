"""Which gate carries the gradient, before and after a network has learnt to need it?

An LSTM, a GRU, a long expressive memory (LEM) and three layers of Elman networks with residual connections
train on the adding problem over 40 steps. Shown is the root-mean-square gain of ds_t/ds_0: of all that there
is, and where one path alone is open beside the direct one, which has all paths closed. At the start it is
the candidate that carries the gradient in LSTM and GRU, and in the LEM several paths together; the direct
way, what the gates hold, is a thousand to a billion times smaller. The three learn the task (last losses
below 0.004, 0.17 is to guess), and with it to hold: the direct way rises to a hundredth over 40 steps, though
the candidate still carries more. The stack does not learn it (0.037), and loses its gradient: its residual
connections lead from layer to layer, not through time, and whether they are open makes no difference here.

Lines are medians over 16 sequences; one training for each cell. Hochreiter & Schmidhuber (1997), Long
short-term memory, section 3.2 (the constant error carousel).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from running import Data, run

import gradsim
from gradsim import plot as plots
from gradsim_cells import GRU, LEM, LSTM, Elman, Residual, Stack
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

UNITS, STEPS = 24, 40
CELLS = {
    "LSTM": LSTM(2, UNITS),
    "GRU": GRU(2, UNITS),
    "LEM": LEM(2, UNITS),
    "Residual stack": Stack(
        (Elman(2, UNITS), Residual(Elman(UNITS, UNITS)), Residual(Elman(UNITS, UNITS))),
    ),
}
TASK, UPDATES = Adding(length=STEPS), 4000
WHEN = ("before", "after")
WHOLE = "all"
FLOOR = -12
WIDTH, HEIGHT = plots.PAGE, 3.9


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """The gains of each cell by path, before and after its training."""
    found = {}
    for label, cell in CELLS.items():
        training = gradsim.train(
            cell, TASK, optimizer=Adam(0.005), updates=20 if quick else UPDATES, batch=32, rng=0
        )
        starts = cell.init_params(np.random.default_rng(0)), gradsim.trained_params(training)
        loss = float(training["train_loss"][-50:].mean())
        for when, params in zip(WHEN, starts, strict=True):
            found[f"{label}, {when}"] = _gains(cell, params).assign_attrs(last_loss=loss)
    return found


def _gains(cell: gradsim.Cell, params: gradsim.types.Params) -> xr.Dataset:
    """log10 of the gain over the whole, and by path, medians over sequences."""
    pairs, record = gradsim.Pairs(sources=(0,)), ["product_norm", "path_product_norm"]
    ds = gradsim.simulate(cell, task=TASK, batch=16, params=params, record=record, pairs=pairs, rng=1)
    size = 0.5 * np.log10(cell.state_size)
    by_path = ds["path_product_norm_log10"].median("batch") - size
    paths = {str(path): by_path.sel(path=path, drop=True) for path in by_path["path"].values}
    whole = ds["product_norm_log10"].isel(source=0, drop=True).median("batch") - size
    return xr.Dataset({WHOLE: whole, **paths})


def plot(data: Data) -> Figure:
    """A column for each cell, before above and after below."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        axes = figure.subplots(len(WHEN), len(CELLS), sharex=True, sharey=True)
        for column, (label, cell) in zip(axes.T, CELLS.items(), strict=True):
            for ax, when in zip(column, WHEN, strict=True):
                _panel(ax, data[f"{label}, {when}"], ("direct", *cell.paths))
            column[0].set_title(label)
            column[1].set_xlabel("Time $t$ (step)")
            column[1].legend(loc="lower left", labelspacing=0.2)
        for ax, when in zip(axes[:, 0], WHEN, strict=True):
            ax.set_ylabel(f"{when.capitalize()} training:\n" + r"RMS gain of $\partial s_t / \partial s_0$")
    return figure


def _panel(ax: Axes, ds: xr.Dataset, paths: Sequence[str]) -> None:
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.plot(ds["time"], ds[WHOLE].clip(FLOOR), color="black", linewidth=1.6, label=WHOLE)
    for path, look in zip(paths, plots.lines(), strict=False):
        kept = {k: look[k] for k in ("color", "linestyle")}
        ax.plot(ds["time"], ds[path].clip(FLOOR), label=path.replace("_", " "), **kept)
    ax.set(ylim=(FLOOR, 2), xlim=(0, STEPS))
    ax.set_yticks([-10, -5, 0], ["$10^{-10}$", "$10^{-5}$", "1"])


if __name__ == "__main__":
    run(__file__, compute, plot)
