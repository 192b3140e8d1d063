"""Which of clipping and the penalty Omega lets a network learn from symbols that are far apart?

Clipping helps, and with Omega it takes the network much further. Without mitigations four seeds of five
solve the task at length 20 and none from 30 on; with clipping all do up to 30, three at 50, none at 70;
with Omega all do up to 70. This is the order that was published. At length 50 the adjoint at the start is
a few thousandths of that at the end, or less, for 1700 updates, until it explodes; Omega brings it to about
1 within a hundred. After an explosion without clipping the adjoint vanishes again and again.

The task is to say in which order two symbols came; the first one stands after 0.1 to 0.2 of the sequence,
the question at its end. Network and training are those of the paper: 50 tanh units that start with 15
weights each, at spectral radius 0.95; stochastic gradient descent with batches of 20; gradients clipped to
norm 1; Omega weighted by 4; solved with less than 1 % of 10,000 new sequences wrong. There it goes on for
up to 5 million updates at learning rate 0.01, here for 6000 at 0.1, for all methods, so that sequences are
shorter. Rounding decides when a seed solves it and, without Omega, now and then whether: on another computer
the updates differ.

It takes about eight minutes on two cores; each training has a folder in runs/temporal_order.

Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks, section 4.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from running import Data, in_processes, run

import gradsim
from gradsim import plot as plots
from gradsim.errors import DivergedError
from gradsim.plot.decades import as_powers
from gradsim.plot.updates import finish, median_of, noisy
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm, JacobianPenalty
from gradsim_optimizers import SGD
from gradsim_tasks import TemporalOrder

CLIP = ClipNorm(max_norm=1.0)
METHODS = {"none": (), "clipping": (CLIP,), "clipping and Omega": (JacobianPenalty(weight=4.0), CLIP)}
LENGTHS, SEEDS, UPDATES, VALIDATE = (20, 30, 50, 70), 5, 6000, 500
PICTURED = {30: 2000, 50: 6000}
"""Lengths of which the gradients are drawn, and up to which update."""

SMOOTH = 51
UNITS, CONNECTIONS, RADIUS, SMALL = 50, 15, 0.95, 0.01
CELL = Elman(input_size=8, hidden_size=UNITS)
WRONG = 0.01
FOLDER = Path("runs") / "temporal_order"
WIDTH, HEIGHT = plots.PAGE, 4.4


@dataclass(frozen=True)
class Job:
    """One training, `kept` in a folder or not."""

    method: str
    length: int
    seed: int
    updates: int = UPDATES
    tested: int = 10_000
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.method}, length {self.length}, seed {self.seed}"

    @property
    def task(self) -> TemporalOrder:
        return TemporalOrder(length=self.length)

    @property
    def store(self) -> Path | None:
        return FOLDER / str(self).replace(",", "").replace(" ", "-") if self.kept else None


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Of each method: errors and updates (length, seed); and gradients of one training of some lengths."""
    if quick:
        jobs = [Job(*chosen, 0, updates=30, tested=500, kept=False) for chosen in product(METHODS, PICTURED)]
        return _by_method(jobs, map(_trained, jobs))
    jobs = [Job(method, n, seed) for seed, n, method in product(range(SEEDS), LENGTHS, METHODS)]
    return _by_method(jobs, in_processes(_trained, jobs))


def _trained(job: Job) -> xr.Dataset:
    """Share of test sequences that are wrong and updates done, NaN if it diverged; and its gradients."""
    try:
        ds = gradsim.train(
            CELL,
            job.task,
            optimizer=SGD(learning_rate=0.1),
            updates=job.updates,
            batch=20,
            mitigations=METHODS[job.method],
            validate={"every": VALIDATE, "sequences": job.tested // 10},
            stop={"score_above": 0.998},
            params=_start(job),
            rng=job.seed,
            dtype="float32",
            threads=1,
            store=job.store,
            resume=job.kept,
        )
    except DivergedError:
        ds = gradsim.open_run(job.store, allow_incomplete=True)
        return _gradients(ds, job.length).assign(wrong=np.nan, updates=np.nan)
    return _gradients(ds, job.length).assign(wrong=_wrong(job, ds), updates=float(ds.sizes["update"]))


def _start(job: Job) -> dict[str, np.ndarray]:
    """What the paper calls a smart tanh initialisation."""
    rng = np.random.default_rng(job.seed)
    weight = rng.standard_normal((UNITS, UNITS))
    for row in weight:
        row[rng.choice(UNITS, UNITS - CONNECTIONS, replace=False)] = 0
    return {
        "U": weight * RADIUS / np.abs(np.linalg.eigvals(weight)).max(),
        "W": SMALL * rng.standard_normal((UNITS, CELL.input_size)),
        "b": np.zeros(UNITS),
        "readout_W": SMALL * rng.standard_normal((job.task.output_size, UNITS)),
        "readout_b": np.zeros(job.task.output_size),
    }


def _wrong(job: Job, ds: xr.Dataset) -> float:
    """The share of new sequences that the trained network gets wrong."""
    params = gradsim.trained_params(ds)
    episode = job.task.sample(np.random.default_rng((job.seed, job.length)), job.tested)
    state = np.zeros((job.tested, UNITS))
    for inputs in episode.inputs:
        state = CELL.step(params, state, inputs, np)
    outputs = state @ params["readout_W"].T + params["readout_b"]
    return 1 - float(job.task.score(outputs, episode.targets[-1]).mean())


def _gradients(ds: xr.Dataset, length: int) -> xr.Dataset:
    """Norm of the gradient before clipping, and of the adjoint at the start next to that at the end."""
    adjoint = ds["train_adjoint_norm_log10"]
    reach = adjoint.isel(train_lag=-1, drop=True) - adjoint.isel(train_lag=0, drop=True)
    with np.errstate(divide="ignore"):
        size = np.log10(ds["train_gradient_norm"])
    gradients = xr.Dataset({"gradient_log10": size, "reach_log10": reach})
    return gradients.isel(update=slice(PICTURED.get(length, 0))).load()


def _by_method(jobs: Sequence[Job], results: Iterable[xr.Dataset]) -> dict[str, xr.Dataset]:
    found = dict(zip(jobs, results, strict=True))
    data = {}
    for method in METHODS:
        own = {job: ds for job, ds in found.items() if job.method == method}
        counted = [
            ds[["wrong", "updates"]].expand_dims(length=[job.length], seed=[job.seed])
            for job, ds in own.items()
        ]
        data[method] = xr.combine_by_coords(counted)
        data |= {
            f"{method}, length {job.length}": ds.drop_vars(["wrong", "updates"])
            for job, ds in own.items()
            if job.length in PICTURED and job.seed == 0
        }
    return data


def plot(data: Data) -> Figure:
    """Who solves it and how soon on the left, the gradients of single trainings beside it."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        axes = figure.subplots(2, 3, width_ratios=(1.1, 0.8, 1))
        _success_panel(axes[0, 0], data)
        _updates_panel(axes[1, 0], data)
        for column, length in zip(axes.T[1:], PICTURED, strict=True):
            _training_panel(column[0], data, length, "gradient_log10", (-2, 2.5))
            _training_panel(column[1], data, length, "reach_log10", (-6.5, 2.9))
        axes[0, 1].set_ylabel("Norm before clipping")
        axes[1, 1].set_ylabel("Norm at start over at end")
        names = [f"{what}, length {length}" for what in ("Gradient", "Adjoint") for length in PICTURED]
        titles = ("Solved", *names[:2], "Updates until solved (open: not)", *names[2:])
        for letter, title, ax in zip("abcdef", titles, axes.flat, strict=True):
            ax.set_title(f"{letter}   {title}")
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    return figure


def _looks() -> dict[str, dict[str, Any]]:
    return dict(zip(METHODS, plots.lines(), strict=False))


def _success_panel(ax: Axes, data: Data) -> None:
    for name, look in _looks().items():
        wrong = data[name]["wrong"]
        share = 100 * (wrong < WRONG).mean("seed")
        ax.plot(wrong["length"], share, label=name, clip_on=False, **look)
    label = f"Share of {wrong.sizes['seed']} seeds (%)"
    ax.set(xlabel="Length (step)", ylabel=label, ylim=(0, 100), xticks=wrong["length"])


def _updates_panel(ax: Axes, data: Data) -> None:
    """One marker a seed; above the line, open: not solved, a cross: diverged."""
    for aside, (name, look) in zip((-0.23, 0, 0.23), _looks().items(), strict=True):
        ds = data[name]
        seed = ds["seed"].values
        across = np.add.outer(range(ds.sizes["length"]), aside + 0.04 * (seed - seed.mean()))
        solved, diverged = (ds["wrong"] < WRONG).values, ds["wrong"].isnull().values
        height = np.where(solved, ds["updates"], 1.08 * UPDATES)
        for chosen, more in (
            (solved, {}),
            (~solved & ~diverged, {"markerfacecolor": "white", "markeredgewidth": 0.8}),
            (diverged, {"marker": "x", "markeredgewidth": 0.8}),
        ):
            dots = {"linestyle": "", "markersize": 3, "alpha": 0.8}
            ax.plot(across[chosen], height[chosen], **look | dots | more)
    ax.axhline(1.03 * UPDATES, color="0.6", linewidth=0.5)
    ax.set(xlabel="Length (step)", ylabel="Update", ylim=(0, 1.13 * UPDATES))
    ax.set_xticks(range(ds.sizes["length"]), ds["length"].values)


def _training_panel(ax: Axes, data: Data, length: int, variable: str, shown: tuple[float, float]) -> None:
    """Faint as it was, and its running median up to a marker where the task is solved."""
    for name, look in _looks().items():
        values = data[f"{name}, length {length}"][variable]
        noisy(ax, values, values.values, SMOOTH, look, None)
        if values.sizes["update"] < PICTURED[length]:
            ax.plot(values["update"][-1], median_of(values, values.values, SMOOTH)[-1], **look)
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    as_powers(ax.yaxis)
    ax.set_ylim(shown)
    finish(ax, "", legend=False)


def table(data: Data) -> str:
    """How many seeds solve each length, and after how many updates (median)."""
    rows = []
    for name in METHODS:
        ds = data[name]
        solved = ds["wrong"] < WRONG
        for length in ds["length"].values:
            here = solved.sel(length=length)
            updates = float(ds["updates"].sel(length=length).where(here).median())
            rows.append(
                f"{name:<18} length {length:<3} solved {int(here.sum())} of {here.size}  updates {updates:g}"
            )
    return "\n".join(rows)


if __name__ == "__main__":
    run(__file__, compute, plot, table)
