"""The figures in run folders, by kind of run: PNG for a look and SVG for a page."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradsim.errors import InputError

if TYPE_CHECKING:
    from xarray import Dataset

_OF_ONE = {
    "simulation": ("gain_heat_map", "adjoint"),
    "training": ("training_overview",),
    "comparison": ("gain_by_lag",),
    "mitigations": ("gain_by_lag_of_mitigations", "bias_against_cost"),
}
_OF_PROBES = ("gain_by_lag_over_updates", "gain_heat_maps")
_OF_ALL = {
    "simulation": ("gain_by_lag",),
    "training": ("loss_curve", "gradient_norm_curve"),
    "comparison": (),
}
"""Kind, or "mitigations" for a comparison of some -> functions of `gradsim.plot`."""


def draw(kind: str, folder: Path, runs: Mapping[str, Dataset]) -> None:
    """Draw what the recorded variables of one run allow."""
    (ds,) = runs.values()
    if kind == "simulation":
        draw_together(kind, folder, runs)
    shown = "mitigations" if "mitigation" in ds.dims else kind
    for name in _OF_ONE[shown] + (_OF_PROBES if "probe_update" in ds.dims else ()):
        _save(folder / name, getattr(_plots(), name), ds)
    if kind == "simulation" and any(f"effective_product_norm{log}" in ds for log in ("", "_log10")):
        paint = functools.partial(_plots().gain_heat_map, variable="effective_gain")
        _save(folder / "effective_gain_heat_map", paint, ds)


def draw_together(kind: str, folder: Path, runs: Mapping[str, Dataset]) -> None:
    """Draw the figures that compare runs."""
    for name in _OF_ALL[kind]:
        paint = getattr(_plots(), name)
        _save(
            folder / name, functools.partial(paint, effective=True) if name == "gain_by_lag" else paint, runs
        )


def _save(stem: Path, paint: Callable[..., Any], data: Any) -> None:
    """Save a figure; without the variable that it shows, say which recorder makes it."""
    try:
        axes = paint(data)
    except InputError as error:
        click.echo(f"No figure {stem}: {error}", err=True)
    else:
        _plots().save(axes, stem)


def _plots() -> Any:
    """The module of figures; it is slow to import, and matplotlib may refuse its settings."""
    try:
        from gradsim import plot
    except ValueError as error:
        raise InputError(f"no figure can be drawn: {error}; see MPLBACKEND and matplotlibrc") from None
    return plot
