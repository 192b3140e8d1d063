"""The figures in run folders, by kind of run: PNG for a look and SVG for a page."""

from __future__ import annotations

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
}
_OF_PROBES = ("gain_by_lag_over_updates", "gain_heat_maps")
_OF_ALL = {
    "simulation": ("gain_by_lag",),
    "training": ("loss_curve", "gradient_norm_curve"),
    "comparison": (),
}
"""Kind -> functions of `gradsim.plot`."""


def draw(kind: str, folder: Path, runs: Mapping[str, Dataset]) -> None:
    """Draw what the recorded variables of one run allow."""
    (ds,) = runs.values()
    if kind == "simulation":
        draw_together(kind, folder, runs)
    for name in _OF_ONE[kind] + (_OF_PROBES if "probe_update" in ds.dims else ()):
        _save(folder / name, getattr(_plots(), name), ds)


def draw_together(kind: str, folder: Path, runs: Mapping[str, Dataset]) -> None:
    """Draw the figures that compare runs."""
    for name in _OF_ALL[kind]:
        _save(folder / name, getattr(_plots(), name), runs)


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
