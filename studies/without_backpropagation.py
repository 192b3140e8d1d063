"""What is lost when another rule takes the place of backpropagation?

Less than the cosine of its gradient says, if it reaches far enough. Who carries influence within units alone
(e_prop, which here is snap, and rflo), at a cosine of 0.4 to 0.6, copies as well as backpropagation does, and
adds nearly as well; e_prop copies by errors through random weights, too. Cutting after 5 steps leaves a
cosine of 0.8, and never learns to copy what is 8 steps away. Estimates by chance without a bias come down
later: kf_rtrl and uoro copy, and hardly add. Exact rules train as backpropagation does; but errors that go
forward are lost to rounding somewhere between 50 and 200 steps, as the network forgets.

A leaky network of 16 units, a = 0.25, learns to copy two symbols of four after 6 steps, and to add two
numbers among 20. Nothing but the rule differs between trainings: weights and sequences of a draw are the
same, 16 sequences in each of 500 updates of Adam at a rate of 0.01. The cosine is that of the gradient of the
cell's parameters with what backpropagation makes of the same sequences at the same weights. Lines are means
over five draws (for losses, of the logarithm), bars their 95 % intervals by Student's t.

Marschall, Cho & Savin (2020), A unified framework of online learning algorithms for training recurrent neural
networks, compare many of these rules by their alignment; the papers of the others stand with them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from running import Data, in_processes, run

import gradsim
from gradsim import analysis
from gradsim import plot as plots
from gradsim.analysis.rates import student_t
from gradsim.plot.decades import as_powers
from gradsim_cells import LeakyRNN
from gradsim_mitigations import (
    DNI,
    KFRTRL,
    RFLO,
    RTRL,
    UORO,
    EProp,
    ForwardErrors,
    Immediate,
    SparseRTRL,
    TargetPropagation,
    TruncateForward,
)
from gradsim_optimizers import Adam
from gradsim_tasks import Adding, CopyMemory

UNITS, LEAK, WINDOW = 16, 0.25, 5
TASKS = {"copy": CopyMemory(delay=6, count=2, alphabet=4), "adding": Adding(length=20, form="sum")}
BPTT = "backpropagation"
FAMILIES: dict[str, dict[str, gradsim.Mitigation]] = {
    "Exact, or cut in time": {
        "rtrl": RTRL(),
        "forward_errors": ForwardErrors(),
        f"truncate_forward, {WINDOW} steps": TruncateForward(k1=WINDOW, k2=WINDOW),
        f"dni, {WINDOW} steps": DNI(k=WINDOW, learning_rate=0.003),
    },
    "Within units": {
        "e_prop, snap": EProp(),  # both, as a unit has one component here and acts on others by U only
        "rflo": RFLO(leak=LEAK),
        "immediate": Immediate(),
        "e_prop, random feedback": EProp(feedback="random"),
    },
    "By chance, or by a learned inverse": {
        "sparse_rtrl, 4 paths": SparseRTRL(),
        "kf_rtrl": KFRTRL(),
        "uoro": UORO(),
        "target_propagation": TargetPropagation(),
    },
}
RULES = {name: rule for family in FAMILIES.values() for name, rule in family.items()}
START, LENGTHS = "at the start", (20, 30, 50, 100, 200)
OF_CELL = ["U", "W", "b"]
EVERY, DRAWS = 25, 5
Looks = Mapping[str, Mapping[str, Any]]
WIDTH, HEIGHT = plots.PAGE, 8.4


@dataclass(frozen=True)
class Job:
    """One training, `kept` in a folder or not."""

    task: str
    rule: str
    draw: int
    updates: int = 500
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.task}, {self.rule}, draw {self.draw}"

    @property
    def store(self) -> Path | None:
        name = str(self).replace(",", "").replace(" ", "-")
        return Path("runs", "without_backpropagation", name) if self.kept else None


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Loss and cosine of each rule by update and draw, and the cosine before any, by length."""
    rules, draws = [BPTT, *RULES], range(1 if quick else DRAWS)
    jobs = [Job(*chosen) for chosen in product(TASKS, rules, draws)]
    if quick:
        jobs = [Job(job.task, job.rule, job.draw, updates=5, kept=False) for job in jobs]
    found = list(map(_trained, jobs)) if quick else list(in_processes(_trained, jobs))
    placed: dict[str, list[xr.Dataset]] = {task: [] for task in TASKS}
    for job, ds in zip(jobs, found, strict=True):
        placed[job.task].append(ds.expand_dims(rule=[job.rule], replicate=[job.draw]))
    trained = {
        task: xr.combine_by_coords(each, combine_attrs="drop_conflicts") for task, each in placed.items()
    }
    return {**trained, START: _by_length(LENGTHS[: 2 if quick else None], draws)}


def _trained(job: Job) -> xr.Dataset:
    ds = gradsim.train(
        _cell(TASKS[job.task]),
        TASKS[job.task],
        optimizer=Adam(learning_rate=1e-2),
        updates=job.updates,
        batch=16,
        mitigations=_rule(job.rule),
        watch=False,
        record={
            "every": min(EVERY, job.updates),
            "recorders": ["gradient", "effective_gradient"],
            "batch": 16,
        },
        validate={"every": min(EVERY, job.updates), "sequences": 1000},
        rng=job.draw,
        threads=1,
        store=job.store,
        resume=job.kept,
    ).load()
    cosine = analysis.over_probes(ds, _cosine)
    return xr.Dataset(
        {
            "loss": ds["validation_loss"].rename(validation_update="update"),
            "cosine": cosine.rename(probe_update="update"),
        }
    )


def _cell(task: gradsim.Task) -> gradsim.Cell:
    return LeakyRNN(input_size=task.input_size, hidden_size=UNITS, time_step=LEAK)


def _rule(name: str) -> list[gradsim.Mitigation]:
    return [] if name == BPTT else [RULES[name]]


def _cosine(ds: xr.Dataset) -> xr.DataArray:
    """Of the cell's own gradient: that of the readout is the same by every rule."""
    return analysis.compare_gradients(ds, OF_CELL)["overall_cosine"]


def _by_length(lengths: Sequence[int], draws: Sequence[int]) -> xr.Dataset:
    """Cosines (rule, replicate, length), adding."""
    cosines = [[[_at_start(name, draw, t) for t in lengths] for draw in draws] for name in RULES]
    dims = {
        "rule": list(RULES),
        "replicate": list(draws),
        "length": ("length", list(lengths), {"units": "step"}),
    }
    label = {"long_name": "cosine between effective and raw gradient", "units": "1"}
    return xr.Dataset({"cosine": (tuple(dims), cosines, label)}, dims)


def _at_start(rule: str, draw: int, length: int) -> float:
    task = Adding(length=length, form="sum")
    ds = gradsim.simulate(
        _cell(task),
        task=task,
        batch=64,
        mitigations=_rule(rule),
        record=["gradient", "effective_gradient"],
        rng=draw,
        threads=1,
    )
    return float(_cosine(ds))


def plot(data: Data) -> Figure:
    """A column for each family; loss and cosine by update on both tasks, and below by length at the start."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        axes = figure.subplots(5, len(FAMILIES), sharey="row", squeeze=False)
        for (family, rules), column in zip(FAMILIES.items(), axes.T, strict=True):
            looks = dict(zip(rules, plots.lines(), strict=False))
            for task, above, below in (("copy", *column[:2]), ("adding", *column[2:4])):
                _loss_panel(above, data[task], looks, TASKS[task])
                _cosine_panel(below, data[task]["cosine"], looks)
            _cosine_panel(column[4], data[START]["cosine"], looks)
            column[4].set(xscale="log", xlabel="Length of the adding problem (step)")
            column[4].set_xticks(data[START]["length"].values, data[START]["length"].values)
            column[4].xaxis.set_minor_formatter(NullFormatter())
            column[0].legend(loc="lower left", bbox_to_anchor=(-0.05, 1), title=family, alignment="left")
            for ax in column[:3]:
                ax.tick_params(labelbottom=False)
            column[3].set_xlabel("Update")
        for ax, label in zip(axes[:, 0], _LABELS, strict=True):
            ax.set_ylabel(label)
    return figure


_LABELS = (
    "Copy:\nvalidation loss",
    "Copy:\ncosine with BPTT",
    "Adding:\nvalidation loss",
    "Adding:\ncosine with BPTT",
    "Adding, at the start:\ncosine with BPTT",
)


def _loss_panel(ax: Axes, ds: xr.Dataset, looks: Looks, task: gradsim.Task) -> None:
    """With what backpropagation does, and what needs no memory gets."""
    level = np.log10(task.baseline.loss)
    ax.axhline(level, color="0.35", linewidth=0.8, linestyle=(0, (4, 2)))
    where = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points"}
    ax.annotate("no memory", (0.01, level), (0, -8), color="0.35", fontsize=6.5, **where)
    loss = np.log10(ds["loss"])
    _line(ax, loss.sel(rule=BPTT), {"color": "0.6", "linewidth": 2.6}, BPTT)
    for i, (rule, look) in enumerate(looks.items()):
        _line(ax, loss.sel(rule=rule), look, rule, i)
    as_powers(ax.yaxis)


def _cosine_panel(ax: Axes, cosine: xr.DataArray, looks: Looks) -> None:
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    for i, (rule, look) in enumerate(looks.items()):
        _line(ax, cosine.sel(rule=rule), look, rule, i)
    ax.set_ylim(-0.4, 1.1)


def _line(ax: Axes, values: xr.DataArray, look: Mapping[str, Any], label: str, begin: int = 0) -> None:
    """The mean over draws and, here and there, its interval; not where other lines have theirs."""
    values = values.transpose("replicate", ...)
    (x,) = (values[d] for d in values.dims if d != "replicate")
    mean, reach = values.mean("replicate", skipna=False), _reach(values)
    every = max(1, len(x) // 5)
    marked = slice(begin % every, None, every)
    ax.plot(x, mean, label=label, markevery=marked, **look)
    ax.errorbar(x[marked], mean[marked], reach[marked], linestyle="", color=look["color"], elinewidth=0.6)


def _reach(values: xr.DataArray) -> xr.DataArray:
    """Half the 95 % interval of the mean over draws."""
    count = values.sizes["replicate"]
    error = (
        values.std("replicate", ddof=1, skipna=False) / np.sqrt(count) if count > 1 else values[0] * np.nan
    )
    return student_t(0.975, count - 1) * error


def table(data: Data) -> str:
    """Loss at the last validation, and the cosine over all probes but the first: means and 95 % intervals."""
    rows = []
    for task in TASKS:
        rows.append(f"{task}: without memory {TASKS[task].baseline.loss:.3f}")
        for rule in data[task]["rule"].values:
            ds = data[task].sel(rule=rule)
            log10 = np.log10(ds["loss"].isel(update=-1))
            mean, reach = float(log10.mean()), float(_reach(log10))
            cosine = ds["cosine"].isel(update=slice(1, None)).mean("update")
            low, high = 10 ** (mean - reach), 10 ** (mean + reach)
            rows.append(
                f"  {rule:<26} loss {10**mean:.4f} ({low:.4f} to {high:.4f})  "
                f"cosine {float(cosine.mean()):.3f} +- {float(_reach(cosine)):.3f}"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    run(__file__, compute, plot, table)
