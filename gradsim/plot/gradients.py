"""The norm of the gradient over a training."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from matplotlib.axes import Axes

from gradsim.analysis.choose import describe
from gradsim.analysis.training import log10_of_training, of_training
from gradsim.plot import style
from gradsim.plot.decades import as_powers
from gradsim.plot.updates import FAINT, MANY, Runs, by_label, curve, finish_full, heights, median_of, noisy
from gradsim.types import Array


def gradient_norm_curve(
    runs: Runs,
    ax: Axes | None = None,
    *,
    smooth: int | None = None,
    log_x: bool = False,
    legend: bool = True,
) -> Axes:
    """Draw the norm of the gradient, faint before its mitigations and full after them.

    Ticks at the bottom mark the updates at which they changed it.

    Parameters
    ----------
    smooth
        How many updates the running median of the full line takes. Left out: 1 in a short training, as
        in `loss_curve` in a long one.
    """
    named = by_label(runs, "gradient_norm_curve")
    with style.axes(ax) as ax:
        for row, ((label, ds), look) in enumerate(zip(named.items(), style.lines(), strict=False)):
            _before_and_after(ax, ds, {**look, "marker": ""}, label, row, smooth)
        what = _described(next(iter(named.values())), "train_gradient_norm")
        as_powers(ax.yaxis)
        finish_full(ax, what.partition(", before")[0], legend, log_x)
    return ax


def _described(ds: xr.Dataset, variable: str) -> str:
    return style.typeset(describe(of_training(ds, variable)))


_SAME = 1e-6
"""A factor this close to 1 is rounding."""


def _before_and_after(
    ax: Axes, ds: xr.Dataset, look: dict[str, Any], label: str, row: int, smooth: int | None
) -> None:
    before = log10_of_training(ds, "train_gradient_norm")
    factor = heights(of_training(ds, "train_gradient_factor").values, log=True)
    update, changed = before["update"].values, np.abs(factor) > _SAME
    thin, smooth = look | {"linewidth": 0.8}, 1 if smooth is None and len(update) <= MANY else smooth
    if not changed.any():
        noisy(ax, before, before.values, smooth, thin, label or None)
        return
    share = f"changed at {100 * changed.sum() / np.isfinite(factor).sum():.0f} %"
    curve(ax, update, before.values, look | FAINT | {"linestyle": "-"}, None if label else "as computed")
    with np.errstate(invalid="ignore"):
        after = median_of(before, before.values + factor, smooth)
    curve(ax, update, after, thin, f"{label}, {share}" if label else "after mitigations")
    _rug(ax, update[changed], row, look["color"], None if label else share)


def _rug(ax: Axes, x: Array, row: int, colour: str, label: str | None) -> None:
    across = ax.get_xaxis_transform()
    look: dict[str, Any] = {"color": colour, "markersize": 3, "markeredgewidth": 0.5, "rasterized": True}
    ax.plot(x, np.full(len(x), 0.015 + 0.03 * row), "|", transform=across, label=label, **look)


def gradient_norm_by_param(
    ds: xr.Dataset, ax: Axes | None = None, *, smooth: int | None = None, log_x: bool = False
) -> Axes:
    """Draw the running median of the norm of the gradient of each parameter.

    Parameters
    ----------
    smooth
        As in `loss_curve`.
    """
    log10 = log10_of_training(ds, "train_gradient_norm_by_param")
    with style.axes(ax) as ax:
        for name, look in zip(log10["param"].values, style.lines(), strict=False):
            one = log10.sel(param=name)
            line = look | {"marker": "", "linewidth": 0.9}
            curve(ax, one["update"].values, median_of(one, one.values, smooth), line, str(name))
        as_powers(ax.yaxis)
        finish_full(ax, _described(ds, "train_gradient_norm_by_param"), True, log_x)
    return ax
