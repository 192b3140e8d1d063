"""Which recurrent networks lose the gradient through time, and which keep it?

On 308 years of sunspots an Elman network with weights of scale 1 (standard deviations over 1/sqrt(n)) loses
it, a factor e every three years, and one of scale 3 explodes; a GRU does no better than scale 1; an LSTM with
forget bias 3 keeps it for a century. Shown is the root-mean-square gain of ds_t/ds_k, 1 for the identity.

The inputs are the real series and not noise: its cycle of eleven years shows in the heat maps. The weights
are eight independent draws: lines are medians over draws and sources, bands reach from 10 % to 90 %, rates
have their 95 % interval, and a heat map shows the draw whose decay rate is the median one.

Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural networks, eq. 5-7.
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
from gradsim_cells.elman import Elman
from gradsim_cells.gru import GRU
from gradsim_cells.lstm import LSTM
from gradsim_tasks.sunspots import Sunspots

CELLS = {
    "Elman, scale 0.45": Elman(recurrent_scale=0.45),
    "Elman, scale 1": Elman(recurrent_scale=1.0),
    "Elman, scale 3": Elman(recurrent_scale=3.0),
    "GRU": GRU(),
    "LSTM, forget bias 1": LSTM(forget_bias=1.0),
    "LSTM, forget bias 3": LSTM(forget_bias=3.0),
}
PICTURED = {"Elman, scale 1": "vanishes", "Elman, scale 3": "explodes", "LSTM, forget bias 3": "survives"}
BOUNDED = "Elman, scale 0.45"
WIDTH, HEIGHT = plots.PAGE, 5.2


def compute(quick: bool = False) -> dict[str, xr.Dataset]:
    """Gains by lag and decay rates of each cell, and all pairs of the pictured ones."""
    draws, years, max_lag = (3, 90, 60) if quick else (8, 308, 100)
    inputs = Sunspots(length=years).sample(np.random.default_rng(0), 1).inputs
    data = {}
    for label, cell in CELLS.items():
        runs = [_simulate(cell, inputs, seed, gradsim.Pairs(max_lag=max_lag)) for seed in range(draws)]
        norms = xr.concat(runs, "batch").assign_coords(batch=range(draws))
        data[label] = _summary(norms, cell, draws)
        if label in PICTURED:
            typical = int(np.argsort(data[label]["draw_rate"].values)[(draws - 1) // 2])
            data[f"{label}, all pairs"] = _simulate(cell, inputs, typical, None)
    return data


def _params(cell: gradsim.Cell, seed: int) -> gradsim.types.Params:
    return cell.init_params(np.random.default_rng(seed))


def _simulate(cell: gradsim.Cell, inputs: np.ndarray, seed: int, pairs: gradsim.Pairs | None) -> xr.Dataset:
    ds = gradsim.simulate(cell, inputs, params=_params(cell, seed), record=["product_norm"], pairs=pairs)
    return ds[["product_norm_log10"]].assign_attrs(weights_seed=seed)


def _summary(norms: xr.Dataset, cell: gradsim.Cell, draws: int) -> xr.Dataset:
    """Each draw is one sample: years of one series are not independent."""
    rate = analysis.decay_rate(norms, samples="batch")
    summary = analysis.gain_by_lag(norms).assign(
        rate=rate["rate"], low=rate["low"], high=rate["high"], draw_rate=rate["window_rate"].mean("window")
    )
    if isinstance(cell, Elman):
        largest = [np.linalg.norm(_params(cell, seed)["U"], 2) for seed in range(draws)]
        attrs = {"long_name": "largest singular value of U", "units": "1"}
        summary = summary.assign(weight_norm=("batch", largest, attrs))
    return summary


def plot(data: Data) -> Figure:
    """Gain by lag and decay rates above, heat maps on one colour scale below."""
    with plots.applied():
        figure = plots.new_figure(WIDTH, HEIGHT)
        top, bottom = figure.subfigures(2, 1, height_ratios=(1, 1.02))
        left, right = top.subplots(1, 2, width_ratios=(2, 1))
        _lag_panel(left, data)
        _rate_panel(right, data)
        _heat_panels(bottom.subplots(1, 3, sharey=True), data)
    return figure


def _lag_panel(ax: Axes, data: Data) -> None:
    plots.gain_by_lag({label: data[label] for label in CELLS}, ax, legend=False)
    ax.set_title("a   Gain of the Jacobian product by lag")


def _rate_panel(ax: Axes, data: Data) -> None:
    """The rates double as the key of the lines."""
    for y, (label, look) in enumerate(zip(CELLS, plots.lines(), strict=False)):
        shown, colour = data[label], look["color"]
        draws = shown["draw_rate"].values
        ax.plot(draws, np.full(len(draws), y + 0.22), "|", color=colour, markersize=4, markeredgewidth=0.7)
        low, high = float(shown["low"]), float(shown["high"])
        ax.plot([low, high], [y, y], color=colour, linestyle=look["linestyle"])
        ax.plot(
            float(shown["rate"]), y, marker=look["marker"], color=colour, markersize=4.5, markeredgewidth=0
        )
    _bound(ax, data[BOUNDED], list(CELLS).index(BOUNDED))
    ax.axvline(0, color="0.6", linewidth=0.5, zorder=0)
    ax.set_yticks(range(len(CELLS)), list(CELLS))
    ax.tick_params(axis="y", length=0)
    ax.invert_yaxis()
    ax.set(xlabel="Slope of ln gain (1/step)")
    ax.set_title("b   Decay rates, and the key to a")


def _bound(ax: Axes, shown: xr.Dataset, y: float) -> None:
    """What Pascanu et al. prove for a contracting network, of the draw that contracts least."""
    bound = float(np.log(shown["weight_norm"].max()))
    ax.plot([bound, bound], [y - 0.25, y + 0.25], color="0.35", linewidth=0.8)
    ax.annotate(
        r"bound $\ln\|U\|_2$",
        (bound, y),
        (-3, 0),
        textcoords="offset points",
        ha="right",
        va="center",
        color="0.35",
        fontsize=7,
    )


def _heat_panels(axes: np.ndarray, data: Data) -> None:
    shown = [data[f"{label}, all pairs"] for label in PICTURED]
    limits = plots.heat_limits(*shown)
    for letter, ax, label, ds in zip("cde", axes, PICTURED, shown, strict=True):
        plots.gain_heat_map(ds, ax, limits=limits, colorbar=False, key=ax is axes[0])
        ax.set_title(f"{letter}   {label}: {PICTURED[label]}")
        ax.set_box_aspect(1)
        ax.label_outer()
    plots.heat_colorbar(axes, limits, "RMS gain of ds_t/ds_k", shrink=0.9)


if __name__ == "__main__":
    run(__file__, compute, plot)
