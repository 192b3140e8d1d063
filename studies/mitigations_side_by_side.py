"""What does each kind of mitigation do to the gradient of three cells, and what does it cost?

Only what changes the dynamics carries it further. After training, 40 steps before the end, a gate and a leak
leave 0.05 and more of the adjoint in an Elman network and an LSTM, where 3e-14 and 3e-4 are left without;
they leave no bias, and take about 9 and 3 times the time. The penalty Omega leaves 0.1 there, at a bias of
0.1 to 0.3. A GRU learns to keep its adjoint by itself. An orthogonal start does not last. Clipping and
truncation take away from the raw adjoint, and add nothing. Of the rules, rtrl alone has no bias, at 30 to 230
times the time; kf_rtrl has the least of the others that go forward, and more than a cut after 10 steps, which
takes twice the time.

Elman, GRU and LSTM, 16 units each, on the adding problem over 50 steps: its loss is at the end, so that the
adjoint at a lag says how much of it gets there. Above, after 200 updates of Adam with the mitigation in
place: thick lines are the effective adjoint, thin ones the raw one of the same network, both over the raw one
at the end, and grey is the network trained without any; medians over 64 sequences, then over three draws.
What a penalty on states adds to the adjoint is in the effective one. Below, at the start: the bias is
||g~ - g|| / ||g|| of the cell's gradient, g being the exact one of the loss in the cell as it then is; the
cost is processor time, over that without mitigations; geometric means over draws. In the strip lies what has
no bias but rounding. Rules have no adjoint; h_detach has no path to close in an Elman cell.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from running import Data, in_processes, run

import gradsim
from gradsim import analysis
from gradsim import plot as plots
from gradsim.errors import InputError
from gradsim.plot.decades import as_powers, power
from gradsim_cells import GRU, LSTM, Elman
from gradsim_mitigations import (
    ARTBP,
    DNI,
    KFRTRL,
    RTRL,
    UORO,
    ClipNorm,
    ClipValue,
    EProp,
    Gate,
    HDetach,
    Immediate,
    JacobianPenalty,
    JacobianRegulariser,
    Leak,
    NormStabiliser,
    OrthogonalInit,
    SnAp,
    SoftOrthogonality,
    SparseRTRL,
    Stiefel,
    TargetPropagation,
    Truncate,
)
from gradsim_optimizers import Adam
from gradsim_tasks import Adding

TASK, UNITS = Adding(length=50, form="sum"), 16
CELLS = {kind.name: kind(input_size=2, hidden_size=UNITS) for kind in (Elman, GRU, LSTM)}
NONE, RULES = "none", "rules"
FAMILIES: dict[str, dict[str, gradsim.Mitigation]] = {
    "clipping": {
        "clip_norm": ClipNorm(max_norm=0.1),
        "clip_value": ClipValue(limit=0.1),
        "clip_norm, adjoint": ClipNorm(max_norm=1e-3, where="adjoint"),
    },
    "truncation": {
        "truncate": Truncate(k1=10, k2=10),
        "artbp": ARTBP(),
        "h_detach": HDetach(),
    },
    "architecture": {"gate": Gate(), "leak": Leak()},
    "regularisation": {
        "jacobian_penalty": JacobianPenalty(weight=0.1),
        "jacobian_regulariser": JacobianRegulariser(),
        "norm_stabiliser": NormStabiliser(),
        "soft_orthogonality": SoftOrthogonality(),
    },
    "start, constraint": {"orthogonal_init": OrthogonalInit(), "stiefel": Stiefel()},
    RULES: {
        "rtrl": RTRL(),
        "snap": SnAp(),
        "e_prop": EProp(),
        "immediate": Immediate(),
        "sparse_rtrl": SparseRTRL(),
        "kf_rtrl": KFRTRL(),
        "uoro": UORO(),
        "dni": DNI(k=10),
        "target_propagation": TargetPropagation(),
    },
}
MITIGATIONS = {name: one for family in FAMILIES.values() for name, one in family.items()}
NUMBERS = {name: i for i, name in enumerate(MITIGATIONS, 1)}
LEAST = -3
"""log10 of what is drawn as a bias; less lies in the strip below."""
WIDTH, HEIGHT = plots.PAGE, 8.2


@dataclass(frozen=True)
class Job:
    """A cell with a mitigation, measured at the start and, if that is no rule, trained."""

    cell: str
    mitigation: str
    draw: int
    updates: int = 200
    batch: int = 64
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.cell}, {self.mitigation}, draw {self.draw}"

    @property
    def mitigations(self) -> list[gradsim.Mitigation]:
        return [] if self.mitigation == NONE else [MITIGATIONS[self.mitigation]]

    @property
    def settings(self) -> dict[str, Any]:
        return {"task": TASK, "mitigations": self.mitigations, "rng": self.draw, "threads": 1}

    @property
    def store(self) -> Path | None:
        name = str(self).replace(",", "").replace(" ", "-")
        return Path("runs", "mitigations_side_by_side", name) if self.kept else None


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Bias, cosine and cost of each mitigation on each cell, and adjoint by lag; NaN where there is none."""
    names, draws = [NONE, *MITIGATIONS], range(1 if quick else 3)
    jobs = [Job(*chosen) for chosen in product(CELLS, names, draws)]
    if quick:
        jobs = [Job(job.cell, job.mitigation, job.draw, updates=1, batch=4, kept=False) for job in jobs]
    found = list(map(_found, jobs)) if quick else list(in_processes(_found, jobs))
    placed = [
        ds.expand_dims(cell=[job.cell], mitigation=[job.mitigation], replicate=[job.draw])
        for job, ds in zip(jobs, found, strict=True)
    ]
    ds = xr.combine_by_coords(placed, combine_attrs="drop").sel(cell=list(CELLS), mitigation=names)
    return {"start": ds[["bias", "cosine", "seconds"]], "trained": ds[["raw_log10", "effective_log10"]]}


def _found(job: Job) -> xr.Dataset:
    lags = {"lag": ("lag", range(TASK.length + 1), {"units": "step"})}
    nothing = ("lag", np.full(TASK.length + 1, np.nan))
    found = xr.Dataset({"raw_log10": nothing, "effective_log10": nothing}, lags)
    try:
        found = found.assign(_at_start(job))
    except InputError:  # the cell has nothing for it to act on
        return found.assign(dict.fromkeys(("bias", "cosine", "seconds"), np.nan))
    return found if job.mitigation in FAMILIES[RULES] else found.assign(_trained(job))


def _at_start(job: Job) -> dict[str, float]:
    """The whole gradient of the cell against the exact one, and the least of three times that it takes."""
    ds = gradsim.simulate(
        CELLS[job.cell], batch=job.batch, record=["gradient", "effective_gradient"], **job.settings
    )
    there = (
        str(name).removeprefix("gradient_") for name in ds.data_vars if str(name).startswith("gradient_")
    )
    against = analysis.compare_gradients(ds, [name for name in there if "readout" not in name])
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        gradsim.simulate(CELLS[job.cell], batch=job.batch, record=["effective_gradient"], **job.settings)
        seconds.append(time.process_time() - begun)
    return {
        "bias": float(against["overall_relative_error"]),
        "cosine": float(against["overall_cosine"]),
        "seconds": min(seconds),
    }


def _trained(job: Job) -> dict[str, tuple[str, Any]]:
    """The adjoint after the last update, from the end back, over the raw one at the end."""
    ds = gradsim.train(
        CELLS[job.cell],
        optimizer=Adam(learning_rate=1e-2),
        updates=job.updates,
        batch=16,
        watch=False,
        record={
            "every": job.updates,
            "recorders": ["adjoint_norm", "effective_adjoint_norm"],
            "batch": job.batch,
        },
        store=job.store,
        resume=job.kept,
        **job.settings,
    ).load()
    last = ds.isel(probe_update=-1)
    end = last["adjoint_norm_log10"].isel(time=-1)
    return {
        f"{flow}_log10": ("lag", (last[name] - end).median("batch").values[::-1])
        for flow, name in (("raw", "adjoint_norm_log10"), ("effective", "effective_adjoint_norm_log10"))
    }


def plot(data: Data) -> Figure:
    """Adjoints by lag, a row for each cell and a column for each family; bias against cost below."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        above, below = figure.subfigures(2, 1, height_ratios=(1.75, 1))
        families = [name for name in FAMILIES if name != RULES]
        axes = above.subplots(len(CELLS), len(families), sharex=True, sharey=True, squeeze=False)
        for row, cell in zip(axes, CELLS, strict=True):
            for ax, family in zip(row, families, strict=True):
                _adjoint_panel(ax, data["trained"].sel(cell=cell), family)
            row[0].set_ylabel(cell)
        for ax, family in zip(axes[0], families, strict=True):
            ax.set_title(family)
        for ax in axes[1]:  # where lines leave room
            ax.legend(loc="lower left", fontsize=6, handlelength=2)
        above.supxlabel("Lag $T - t$ (step)", fontsize=8)
        above.supylabel("Adjoint after training, over the raw one at the end", fontsize=8)
        _pareto(below, data["start"])
    return figure


def _adjoint_panel(ax: Axes, ds: xr.Dataset, family: str) -> None:
    median = ds.median("replicate")
    lag = median["lag"]
    ax.plot(lag, median["raw_log10"].sel(mitigation=NONE), color="0.7", linewidth=2.6, label=NONE)
    for name, look in zip(FAMILIES[family], plots.lines(), strict=False):
        one = median.sel(mitigation=name)
        ax.plot(lag, one["raw_log10"], color=look["color"], linewidth=0.5)
        ax.plot(lag, one["effective_log10"], markevery=10, label=name, **look)
    ax.set_ylim(-9, 1)
    as_powers(ax.yaxis)


def _pareto(figure: SubFigure, ds: xr.Dataset) -> None:
    """A panel for each cell, a colour for each family, a number for each mitigation."""
    axes = figure.subplots(1, len(CELLS), sharex=True, sharey=True)
    bias, cost = _means(ds)
    handles = []
    for names, look in zip(FAMILIES.values(), plots.lines(), strict=False):
        dot = {"linestyle": "", "marker": "o", "color": look["color"], "markerfacecolor": "white"}
        for name in names:
            number = NUMBERS[name]
            handles.append(Line2D([], [], label=f"{number} {name}", markersize=4, **dot))
            for ax, cell in zip(axes, CELLS, strict=True):
                x, y = (float(v.sel(cell=cell, mitigation=name)) for v in (cost, bias))
                y = y if y > LEAST else LEAST - 0.4 - 0.25 * (number % 4)
                ax.plot(x, y, markersize=7.5, **dot)
                ax.annotate(f"{number}", (x, y), fontsize=5, ha="center", va="center_baseline")
    for ax, cell in zip(axes, CELLS, strict=True):
        ax.axhspan(LEAST - 1.4, LEAST - 0.2, color="0.94", linewidth=0)
        ax.set(title=cell, xlabel="Time of a gradient, over that without", ylim=(LEAST - 1.4, 0.8))
        as_powers(ax.xaxis)
        levels = range(LEAST, 1)
        ax.set_yticks([LEAST - 0.8, *levels], ["none", *(power(level) for level in levels)])
    axes[0].set_ylabel("Relative bias of the gradient")
    figure.legend(handles=handles, loc="outside lower center", ncols=6, fontsize=6, handletextpad=0)


def _means(ds: xr.Dataset) -> tuple[xr.DataArray, xr.DataArray]:
    """log10 of bias and of relative cost, (cell, mitigation), means over draws."""
    with np.errstate(divide="ignore"):
        bias, seconds = np.log10(ds["bias"]).mean("replicate"), np.log10(ds["seconds"]).mean("replicate")
    return bias, seconds - seconds.sel(mitigation=NONE)


def table(data: Data) -> str:
    """Of each cell with each mitigation: bias, cosine and cost at the start, and what is left at lag 40."""
    bias, cost = _means(data["start"])
    rows = []
    for cell, name in product(CELLS, [NONE, *MITIGATIONS]):
        start, trained = (data[n].sel(cell=cell, mitigation=name) for n in ("start", "trained"))
        left = trained.sel(lag=40).median("replicate")
        rows.append(
            f"{cell:<6} {name:<20} bias {10 ** float(bias.sel(cell=cell, mitigation=name)):<9.2g} "
            f"cosine {float(start['cosine'].mean()):<7.3f} "
            f"cost {10 ** float(cost.sel(cell=cell, mitigation=name)):<5.1f} "
            f"left at lag 40: raw 10^{float(left['raw_log10']):.1f}, "
            f"effective 10^{float(left['effective_log10']):.1f}"
        )
    return "\n".join(rows)


if __name__ == "__main__":
    run(__file__, compute, plot, table)
