"""What does clipping change: the size of the gradient, or what it says?

Clipping the norm changes only its size: it still points where the first few steps do, which an explosion
gives nearly all of it. Clipping the adjoint (at 1) or truncating (at 20 steps) lets every step take part,
and the result points elsewhere: its cosine with the gradient is 0.3 and 0.02.

An Elman network on 308 years of sunspots, with a loss at every year: weights of scale 3 (standard deviations
over 1/sqrt(n)), of which most draws explode, and of scale 2, of which most are at the edge. Eight draws;
lines are medians, bands reach from 10 % to 90 %, and thin lines are single draws.

Pascanu, Mikolov & Bengio (2013), algorithm 1, clip the norm of the gradient; Graves (2013), section 2.1,
clips inside the backward pass; Williams & Peng (1990) truncate it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from running import Data, run

import gradsim
from gradsim import analysis
from gradsim import plot as plots
from gradsim.plot.decades import as_powers
from gradsim_cells.elman import Elman
from gradsim_mitigations import ClipNorm, ClipValue, Truncate
from gradsim_tasks.sunspots import Sunspots

MILD, EXPLODING = 2.0, 3.0
MAX_NORM, WINDOW = 1.0, 20
OF_CELL = ["U", "W", "b"]
BY_THRESHOLD = {
    "clip norm": (ClipNorm, "gradient", EXPLODING),
    "clip adjoint": (ClipNorm, "adjoint", EXPLODING),
    "clip adjoint, scale 2": (ClipNorm, "adjoint", MILD),
    "clip value": (ClipValue, "gradient", EXPLODING),
}
BY_WINDOW = {"truncate": EXPLODING, "truncate, scale 2": MILD}
LOOKS = dict(zip(("raw", "clip adjoint", "truncate", "clip norm", "clip value"), plots.lines(), strict=False))
WIDTH, HEIGHT = plots.PAGE, 4.6


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Adjoints and contributions of every draw, and how well each mitigation keeps the direction."""
    draws, years = (3, 120) if quick else (8, 308)
    thresholds = np.logspace(-3, 3, 4 if quick else 7)
    windows = [w for w in (1, 2, 5, 10, 20, 50, 100, 200, 308) if w <= years]
    profile = {
        "clip adjoint": _profile(ClipNorm(MAX_NORM, where="adjoint"), draws, years),
        "truncate": _profile(Truncate(k1=WINDOW, k2=WINDOW), draws, years),
    }
    by_threshold = {
        name: _cosines([kind(float(x), where=where) for x in thresholds], scale, draws, years)
        for name, (kind, where, scale) in BY_THRESHOLD.items()
    }
    by_window = {
        name: _cosines([Truncate(k1=w, k2=w) for w in windows], scale, draws, years)
        for name, scale in BY_WINDOW.items()
    }
    return {
        **profile,
        "cosine by threshold": _swept(by_threshold, "threshold", thresholds, "1"),
        "cosine by window": _swept(by_window, "window", windows, "step"),
    }


def _profile(mitigation: gradsim.Mitigation, draws: int, years: int) -> xr.Dataset:
    """Adjoint norms (time, batch) and contribution norms (step, batch), one batch element a draw."""
    record = [f"{prefix}{name}_norm" for prefix in ("", "effective_") for name in ("adjoint", "contribution")]
    runs = [_simulate(mitigation, EXPLODING, seed, years, record) for seed in range(draws)]
    kept = [xr.Dataset(_sizes(ds), attrs={"mitigations": ds.attrs["mitigations"]}) for ds in runs]
    return xr.concat(kept, "batch").assign_coords(batch=range(draws)).transpose("time", "step", "batch")


def _sizes(ds: xr.Dataset) -> dict[str, xr.DataArray]:
    names = ("adjoint_norm_log10", "effective_adjoint_norm_log10")
    return {n: ds[n].isel(batch=0, drop=True) for n in names} | {
        f"{prefix}share_log10": _share(ds[f"{prefix}contribution_norm_log10"])
        for prefix in ("", "effective_")
    }


def _share(log10: xr.DataArray) -> xr.DataArray:
    """log10 of the norm over the parameters of the cell, relative to the step with the largest."""
    of_cell = log10.sel(param=OF_CELL)
    top = of_cell.max()
    squares = (100.0 ** (of_cell - top)).sum("param")
    with np.errstate(divide="ignore"):
        size = np.log10(squares) / 2
    attrs = {"long_name": "log10 of the contribution relative to the largest", "units": "1"}
    return (size - size.max()).assign_attrs(attrs)


def _cosines(
    mitigations: Sequence[gradsim.Mitigation], scale: float, draws: int, years: int
) -> list[list[float]]:
    """Of the effective and the raw gradient, (mitigation, draw)."""
    return [[_cosine(m, scale, seed, years) for seed in range(draws)] for m in mitigations]


def _cosine(mitigation: gradsim.Mitigation, scale: float, seed: int, years: int) -> float:
    """Of the cell's own gradient: that of the readout needs no adjoint and stays as it is."""
    ds = _simulate(mitigation, scale, seed, years, ["gradient", "effective_gradient"])
    return float(analysis.compare_gradients(ds, OF_CELL)["overall_cosine"])


def _simulate(
    mitigation: gradsim.Mitigation, scale: float, seed: int, years: int, record: Sequence[str]
) -> xr.Dataset:
    cell, task = Elman(recurrent_scale=scale), Sunspots(length=years)
    return gradsim.simulate(cell, task=task, mitigations=[mitigation], record=record, rng=seed)


def _swept(
    cosines: dict[str, list[list[float]]], dim: str, values: Sequence[float], units: str
) -> xr.Dataset:
    label = {"long_name": "cosine between effective and raw gradient", "units": "1"}
    variables = {name: ((dim, "batch"), c, label) for name, c in cosines.items()}
    return xr.Dataset(variables, {dim: (dim, np.asarray(values, dtype=float), {"units": units})})


def plot(data: Data) -> Figure:
    """Adjoints and contributions through time above, cosines below."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        axes = figure.subplots(2, 2)
        _adjoint_panel(axes[0, 0], data)
        _share_panel(axes[0, 1], data)
        _cosine_panel(axes[1, 0], data["cosine by threshold"])
        _cosine_panel(axes[1, 1], data["cosine by window"])
        axes[1, 0].set(xlabel="Threshold of the clipping", ylabel="Cosine of effective and raw gradient")
        as_powers(axes[1, 0].xaxis)
        axes[1, 1].set(xlabel="Length of the truncated window (step)")
        windows = data["cosine by window"]["window"].values
        axes[1, 1].set_xticks(np.log10(windows), [f"{w:g}" for w in windows])
        titles = ("Adjoint through time", "Share of each step in the gradient", "Clipping", "Truncating")
        for letter, title, ax in zip("abcd", titles, axes.flat, strict=True):
            ax.set_title(f"{letter}   {title}")
    return figure


def _adjoint_panel(ax: Axes, data: Data) -> None:
    labels = {f"clip adjoint at {MAX_NORM:g}": "clip adjoint", f"truncate at {WINDOW} steps": "truncate"}
    plots.adjoint({label: data[name] for label, name in labels.items()}, ax)


def _share_panel(ax: Axes, data: Data) -> None:
    raw = data["clip adjoint"]["share_log10"]
    plots.line_with_band(ax, raw, LOOKS["raw"], "raw, and after clip norm")
    for name in ("clip adjoint", "truncate"):
        plots.line_with_band(ax, data[name]["effective_share_log10"], LOOKS[name], name)
    ax.set(xlabel="Step", ylabel="Contribution over the largest")
    ax.margins(x=0.01)
    as_powers(ax.yaxis)
    ax.legend()


def _cosine_panel(ax: Axes, cosines: xr.Dataset) -> None:
    (x,) = map(np.log10, cosines.coords.values())
    for name in (n for n in (*BY_THRESHOLD, *BY_WINDOW) if n in cosines):
        values = cosines[name]
        look = LOOKS[name.removesuffix(", scale 2")]
        hollow = {"markerfacecolor": "white", "markeredgewidth": 0.8} if "scale 2" in name else {}
        label = name if "scale 2" in name or name == "clip norm" else f"{name}, scale 3"
        ax.plot(x, values, ":" if hollow else "-", color=look["color"], linewidth=0.6, alpha=0.35)
        ax.plot(x, values.median("batch"), label=label, **(look | hollow))
    ax.axhline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_ylim(-1.05, 1.08)
    ax.legend(loc="lower left")


if __name__ == "__main__":
    run(__file__, compute, plot)
