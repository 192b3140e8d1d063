"""What does each kind of mitigation do to the gradient of three cells, and what does it cost?

What changes the dynamics carries it furthest. After training, 40 steps before the end, a gate and a leak
leave 0.05 and more of the adjoint in an Elman network and an LSTM, where 3e-14 and 3e-4 are left without;
they leave no bias, and take about 20 and 3 to 6 times the time. The penalty Omega leaves 0.1 there, at a bias
of 0.1 to 0.3. A GRU learns to keep its adjoint by itself. An orthogonal start does not last. Clipping and
truncation take away from the raw adjoint, and add nothing. Of the rules, rtrl alone has no bias, at 30 to 250
times the time; kf_rtrl has the least of the others that go forward, and more than a cut after 10 steps, which
takes twice the time.

Elman, GRU and LSTM, 16 units each, on the adding problem over 50 steps: its loss is at the end, so that the
adjoint at a lag says how much of it gets there. Above, after 200 updates of Adam with the mitigation in
place: thick lines are the effective adjoint, thin ones the raw one of the same network, both over the raw one
at the end, and grey is the network trained without any; medians over 64 sequences, then over three draws.
What a penalty on states adds to the adjoint is in the effective one. Below, at the start: the bias is
||g~ - g|| / ||g|| of the cell's gradient, g being the exact one of the loss in the cell as it then is; the
cost is time, over that without mitigations; geometric means over draws. In the strip lies what has no bias
but rounding. Rules have no adjoint; h_detach has no path to close in an Elman cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D
from running import Data, in_processes, run

import gradsim
from gradsim import plot as plots
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

TASK, UNITS, SEQUENCES = Adding(length=50, form="sum"), 16, 64
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
LEAST = -3
"""log10 of what is drawn as a bias; less lies in the strip below."""
WIDTH, HEIGHT = plots.PAGE, 8.8
POINTS_A_DECADE, RING = (50, 24), 9.5
"""Of cost and bias in the figure, and how wide a number with its ring is, in points."""


@dataclass(frozen=True)
class Job:
    """A training of a cell with a mitigation, `kept` in a folder or not."""

    cell: str
    mitigation: str
    draw: int
    updates: int = 200
    kept: bool = True

    def __str__(self) -> str:
        return f"{self.cell}, {self.mitigation}, draw {self.draw}"

    @property
    def store(self) -> Path | None:
        name = str(self).replace(",", "").replace(" ", "-")
        return Path("runs", "mitigations_side_by_side", name) if self.kept else None


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Bias, cosine and cost of each mitigation on each cell, and adjoint by lag; NaN where there is none."""
    draws = range(1 if quick else 3)
    start = [_at_start(cell, draws) for cell in CELLS]
    jobs = [
        Job(cell, name, draw)
        for cell, draw in product(CELLS, draws)
        for name in (NONE, *_acting(cell))
        if name not in FAMILIES[RULES]
    ]
    if quick:
        jobs = [replace(job, updates=1, kept=False) for job in jobs]
    trained = list(map(_trained, jobs)) if quick else list(in_processes(_trained, jobs))
    return {"start": _placed(start), "trained": _placed(trained)}


def _placed(found: Sequence[xr.Dataset]) -> xr.Dataset:
    """All beside each other, in the order of cells and mitigations."""
    whole = xr.merge(found, join="outer", compat="no_conflicts")
    return whole.reindex(cell=list(CELLS), mitigation=[NONE, *MITIGATIONS])


def _acting(cell: str) -> dict[str, gradsim.Mitigation]:
    """The mitigations that find in this cell what they act on: an Elman cell has no path to close."""
    return {name: one for name, one in MITIGATIONS.items() if (cell, name) != ("elman", "h_detach")}


def _at_start(cell: str, draws: Sequence[int]) -> xr.Dataset:
    """Bias and cosine of the gradient of the cell, that of the readout left out, and what it costs."""
    ds = gradsim.compare(
        {cell: CELLS[cell]},
        task=TASK,
        mitigations=_acting(cell),
        seeds=draws,
        batch=SEQUENCES,
        record=["gradient_norm", "effective_gradient_norm", "gradient_bias", "gradient_cosine"],
        threads=1,
    )
    own = ds.sel(param=[name for name in ds["param"].values if "readout" not in name])
    exact, effective = own["gradient_norm"], own["effective_gradient_norm"]
    product = (own["gradient_cosine"] * exact * effective).sum("param")
    found = {
        "bias": _length(own["gradient_bias"] * exact) / _length(exact),
        "cosine": product / (_length(exact) * _length(effective)),
        "seconds": ds["gradient_seconds"],
    }
    return xr.Dataset(found).reset_coords(drop=True).rename(seed="replicate")


def _length(by_param: xr.DataArray) -> xr.DataArray:
    """Of the vector whose parts have these lengths."""
    return np.sqrt((by_param**2).sum("param"))


def _trained(job: Job) -> xr.Dataset:
    """The adjoint after the last update, from the end back, over the raw one at the end."""
    ds = gradsim.train(
        CELLS[job.cell],
        TASK,
        mitigations=[] if job.mitigation == NONE else [MITIGATIONS[job.mitigation]],
        optimizer=Adam(learning_rate=1e-2),
        updates=job.updates,
        batch=16,
        watch=False,
        record={
            "every": job.updates,
            "recorders": ["adjoint_norm", "effective_adjoint_norm"],
            "batch": SEQUENCES,
        },
        rng=job.draw,
        threads=1,
        store=job.store,
        resume=job.kept,
    ).load()
    last = ds.isel(probe_update=-1)
    end = last["adjoint_norm_log10"].isel(time=-1)
    found = {
        f"{flow}_log10": ("lag", (last[name] - end).median("batch").values[::-1])
        for flow, name in (("raw", "adjoint_norm_log10"), ("effective", "effective_adjoint_norm_log10"))
    }
    place = {"cell": [job.cell], "mitigation": [job.mitigation], "replicate": [job.draw]}
    return xr.Dataset(found, {"lag": ("lag", range(TASK.length + 1), {"units": "step"})}).expand_dims(place)


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
            row[0].set_ylabel(type(CELLS[cell]).__name__)
        for top, bottom, family in zip(axes[0], axes[-1], families, strict=True):
            top.set_title(family.capitalize())
            bottom.set(xlabel="Lag $T - t$ (step)", xticks=(0, 25, 50))
            bottom.legend(loc="upper left", bbox_to_anchor=(-0.15, -0.3), fontsize=6.5, handlelength=2.2)
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
    looks = zip(FAMILIES.values(), plots.lines(), strict=False)
    colours = [look["color"] for family, look in looks for _ in family]
    ring = {"linestyle": "", "marker": "o", "markerfacecolor": "white"}
    for ax, cell in zip(axes, CELLS, strict=True):
        ax.axhspan(LEAST - 1.4, LEAST - 0.2, color="0.94", linewidth=0)
        points = np.stack([v.sel(cell=cell, mitigation=list(MITIGATIONS)) for v in (cost, bias)], axis=-1)
        points[points[:, 1] < LEAST, 1] = LEAST - 0.8
        for i, (point, place) in enumerate(zip(points, _apart(points), strict=True)):
            line = {"color": colours[i], "linewidth": 0.5, "markersize": 2.5, "markevery": [0]}
            ax.plot(*zip(point, place, strict=True), ".-", **line)
            ax.plot(*place, color=colours[i], markersize=8.5, markeredgewidth=0.8, **ring)
            ax.annotate(f"{i + 1}", place, fontsize=6, ha="center", va="center_baseline")
        ax.set(xlabel="Time of a gradient, over that without", ylim=(LEAST - 1.4, 0.8))
        ax.set_title(type(CELLS[cell]).__name__)
        as_powers(ax.xaxis)
        levels = range(LEAST, 1)
        ax.set_yticks([LEAST - 0.8, *levels], ["none", *(power(level) for level in levels)])
    axes[0].set_ylabel("Relative bias of the gradient")
    named = enumerate(zip(MITIGATIONS, colours, strict=True), 1)
    handles = [Line2D([], [], color=c, label=f"{i} {name}", markersize=4, **ring) for i, (name, c) in named]
    small = {"fontsize": 6.5, "handletextpad": 0, "columnspacing": 1}
    figure.legend(handles=handles, loc="outside lower center", ncols=6, **small)


def _apart(points: np.ndarray) -> np.ndarray:
    """Places for numbers, as close to their points as they go without hiding each other; NaN stays."""
    there = np.flatnonzero(np.isfinite(points).all(axis=1))
    wanted = points[there] * POINTS_A_DECADE
    found = wanted + np.random.default_rng(0).normal(size=wanted.shape)  # apart, if ever so little
    for _ in range(300):
        away = found[:, None] - found
        between = np.linalg.norm(away, axis=-1, keepdims=True) + 1e9 * np.eye(len(there))[..., None]
        push = np.clip(RING - between, 0, None) * away / between
        found += push.sum(axis=1) / 2 + 0.02 * (wanted - found)
    places = np.full(points.shape, np.nan)
    places[there] = found / POINTS_A_DECADE
    return places


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
