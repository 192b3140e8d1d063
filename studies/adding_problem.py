"""Does the gradient's horizon decide whether a network solves the adding problem?

It tells, but it does not decide. The answer, asked at step 100, is the sum of two marked numbers: one among
the last 50 steps, one among the 50 before. Who always says the mean has a loss of 1/6, who knows the later
number 1/12. Below that are only networks whose adjoints no longer vanish, of either kind (c). Every LSTM
gets there a few hundred updates later (a, b), to a loss of 0.0003 at the best learning rate; of 18 Elman
networks 12 keep their adjoints at some time, and 7 get there, to 0.018 at the best learning rate and none at
the largest. Yet an LSTM whose gradient is cut 5 steps before the end, so that it hears of one later number in
ten and of no earlier one, gets to 0.008 (d): what it learns to keep for a few steps, it keeps for a hundred.

All networks see the same sequences, 20 in each of 4000 updates (d: 2000) of Adam, clipped at norm 1, with
a learning rate that falls along half a cosine. An Elman network of 128 units has as many parameters as an
LSTM of 64. The horizon is the lag from which on the adjoint stays below 1 % of that at the end, 100 if
there is none. Lines are medians over draws of the weights, thin lines single draws; rounding moves these, so
that they differ on another computer.

Le, Jaitly & Hinton (2015), A simple way to initialize recurrent networks of rectified linear units,
section 4.1; Arjovsky, Shah & Bengio (2016), Unitary evolution recurrent neural networks, section 5.2: there,
too, the LSTM solves it and the network of tanh units does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter
from running import Data, in_processes, run

import gradsim
from gradsim import analysis
from gradsim import plot as plots
from gradsim.plot.decades import as_powers
from gradsim_cells import LSTM, Elman
from gradsim_mitigations import ClipNorm, Truncate
from gradsim_optimizers import Adam
from gradsim_schedules import Cosine
from gradsim_tasks import Adding

LSTM_64 = "LSTM, 64 units"
CELLS = {
    LSTM_64: LSTM(input_size=2, hidden_size=64),
    "Elman, 64 units": Elman(input_size=2, hidden_size=64),
    "Elman, 128 units": Elman(input_size=2, hidden_size=128),
}
TASK = Adding(length=100, form="sum")
RATES, PICTURED = (3e-4, 1e-3, 3e-3), 1e-3
CUT, CUT_RATE, WINDOWS = "gradient cut", 3e-3, (5, 20)
MEAN, LATER = TASK.baseline.loss, 1 / 12
EVERY, FAR = 100, 70
LOOKS = dict(zip(CELLS, plots.lines(), strict=False))
WIDTH, HEIGHT = plots.PAGE, 4.9


@dataclass(frozen=True)
class Job:
    """One training, with the gradient cut to a `window` or not, `kept` in a folder or not."""

    label: str
    rate: float
    draw: int
    updates: int = 4000
    window: int = TASK.length
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.label}, learning rate {self.rate:g}, draw {self.draw}, window {self.window}"

    @property
    def store(self) -> Path | None:
        name = str(self).replace(",", "").replace(" ", "-")
        return Path("runs", "adding_problem", name) if self.kept else None


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Loss and horizon of each cell by learning rate and draw, and of the first by window and draw."""
    if quick:
        jobs = [Job(label, PICTURED, 0, updates=20, kept=False) for label in CELLS]
        jobs.append(replace(jobs[0], window=WINDOWS[0]))
        return _sorted(jobs, [_trained(job) for job in jobs])
    jobs = [Job(*chosen) for chosen in product(CELLS, RATES, range(3))]
    jobs += [Job(LSTM_64, CUT_RATE, draw, 2000, window) for window, draw in product(WINDOWS, range(2))]
    return _sorted(jobs, list(in_processes(_trained, jobs)))


def _trained(job: Job) -> xr.Dataset:
    ds = gradsim.train(
        CELLS[job.label],
        TASK,
        optimizer=Adam(learning_rate=job.rate, schedule=Cosine()),
        updates=job.updates,
        batch=20,
        mitigations=_mitigations(job.window),
        validate={"every": EVERY, "sequences": 1000},
        rng=job.draw,
        dtype="float32",
        threads=1,
        store=job.store,
        resume=job.kept,
    )
    return _summary(ds.load())


def _mitigations(window: int) -> list[gradsim.Mitigation]:
    """Only the end has a loss, so that truncation cuts its gradient `window` steps before."""
    cut = [Truncate(k1=window, k2=window)] if window < TASK.length else []
    return [ClipNorm(max_norm=1.0), *cut]


def _summary(ds: xr.Dataset) -> xr.Dataset:
    """Of each validation: its loss, and medians of the horizon and the adjoint over the updates around."""
    adjoint = ds["train_adjoint_norm_log10"]
    left = adjoint.sel(train_lag=FAR) - adjoint.sel(train_lag=0)
    return xr.Dataset(
        {
            "loss": ds["validation_loss"],
            "horizon": _around(ds["train_horizon"].fillna(TASK.length), ds["validation_update"]),
            "left_log10": _around(left.rename("left_log10"), ds["validation_update"]),
        }
    )


def _around(values: xr.DataArray, update: xr.DataArray) -> xr.DataArray:
    return analysis.smoothed(values, EVERY + 1).sel(update=update, method="nearest").drop_vars("update")


def _sorted(jobs: Sequence[Job], found: Sequence[xr.Dataset]) -> dict[str, xr.Dataset]:
    """By cell, and those with the gradient cut."""
    placed: dict[str, list[xr.Dataset]] = {}
    for job, ds in zip(jobs, found, strict=True):
        whole = job.window == TASK.length
        where = {"learning_rate": [job.rate]} if whole else {"window": [job.window]}
        placed.setdefault(job.label if whole else CUT, []).append(
            ds.expand_dims(where | {"replicate": [job.draw]})
        )
    return {name: xr.combine_by_coords(each, combine_attrs="drop_conflicts") for name, each in placed.items()}


def plot(data: Data) -> Figure:
    """Loss and horizon by update above; every validation, and what cutting the gradient changes, below."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        axes = figure.subplots(2, 2)
        _loss_panel(axes[0, 0], data)
        _horizon_panel(axes[0, 1], data)
        _all_panel(axes[1, 0], data)
        _cut_panel(axes[1, 1], data[CUT])
        titles = (
            f"Loss, learning rate {PICTURED:g}",
            f"Horizon, learning rate {PICTURED:g}",
            "All validations, all learning rates",
            f"LSTM with its gradient cut, learning rate {CUT_RATE:g}",
        )
        for letter, title, ax in zip("abcd", titles, axes.flat, strict=True):
            ax.set_title(f"{letter}   {title}")
    return figure


def _draws(ax: Axes, values: xr.DataArray, look: dict[str, Any], label: str) -> None:
    """Each draw as a thin line, and the median."""
    values = values.transpose("validation_update", "replicate")
    update = values["validation_update"]
    ax.plot(update, values, color=look["color"], linewidth=0.5, alpha=0.45)
    ax.plot(update, values.median("replicate"), label=label, markevery=max(1, len(update) // 8), **look)
    ax.set_xlabel("Update")
    ax.margins(x=0.02)


def _loss_panel(ax: Axes, data: Data) -> None:
    for label, look in LOOKS.items():
        _draws(ax, np.log10(data[label]["loss"].sel(learning_rate=PICTURED)), look, label)
    _loss_axis(ax)
    ax.legend(loc="lower left")


def _loss_axis(ax: Axes) -> None:
    """With what the two simple answers get."""
    for level, label in ((MEAN, "mean"), (LATER, "later")):
        ax.axhline(np.log10(level), color="0.35", linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
        where = {"xycoords": ("axes fraction", "data"), "va": "center_baseline"}
        ax.annotate(label, (1.01, np.log10(level)), color="0.35", fontsize=6.5, **where)
    ax.set_ylabel("Validation loss")
    as_powers(ax.yaxis)


def _horizon_panel(ax: Axes, data: Data) -> None:
    for label, look in LOOKS.items():
        _draws(ax, data[label]["horizon"].sel(learning_rate=PICTURED), look, label)
    ax.axhline(TASK.length / 2, color="0.6", linewidth=0.5, zorder=0)
    ax.set(ylabel="Horizon (step)", ylim=(0, 1.05 * TASK.length))
    ax.yaxis.set_major_formatter(FuncFormatter(_or_more))


def _or_more(steps: float, _: object) -> str:
    return f"≥ {steps:g}" if steps == TASK.length else f"{steps:g}"


def _all_panel(ax: Axes, data: Data) -> None:
    for label, look in LOOKS.items():
        dots = {"linestyle": "", "markersize": 2.2, "alpha": 0.4, "rasterized": True}
        trained = data[label].isel(validation_update=slice(1, None)).stack(all=[...])
        ax.plot(trained["left_log10"], np.log10(trained["loss"]), **look | dots)
    _loss_axis(ax)
    ax.set_xlabel(f"Adjoint {FAR} steps before the end, over that at the end")
    as_powers(ax.xaxis)


def _cut_panel(ax: Axes, cut: xr.Dataset) -> None:
    for (window, loss), look in zip(cut["loss"].groupby("window"), plots.lines(), strict=False):
        _draws(ax, np.log10(loss.squeeze("window")), look, f"{window} steps")
    _loss_axis(ax)
    ax.legend(loc="lower left", title="gradient cut at", title_fontsize=7, alignment="left")


def table(data: Data) -> str:
    """Loss and horizon at the last validation: medians over draws, and the range of the loss.

    A horizon of 100 stands for all that are beyond.
    """
    rows = [f"always the mean {MEAN:.4f}, later number known {LATER:.4f}"]
    for name, ds in ((name, data[name]) for name in (*CELLS, CUT)):
        along, what = ("window", "cut at") if name == CUT else ("learning_rate", "rate")
        for value in ds[along].values:
            last = ds.sel({along: value}).isel(validation_update=-1)
            median, low, high = last["loss"].quantile([0.5, 0, 1]).values
            horizon = float(last["horizon"].median())
            rows.append(
                f"{name:<17} {what} {value:<7.2g} loss {median:.4f} ({low:.4f} to {high:.4f})  "
                f"horizon {horizon:.0f}"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    run(__file__, compute, plot, table)
