"""The figures of a run folder, PNG for a look and SVG for a page."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from gradsim.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from xarray import Dataset


def draw(folder: Path, label: str, ds: Dataset) -> None:
    """Draw what the recorded variables of one run allow."""
    from gradsim import plot

    draw_together(folder, {label: ds})
    save(folder / "norm_heat_map", lambda: plot.norm_heat_map(ds))
    save(folder / "adjoint", lambda: plot.adjoint(ds))


def draw_together(folder: Path, runs: Mapping[str, Dataset]) -> None:
    """Draw the figure that compares runs."""
    from gradsim import plot

    save(folder / "norm_by_lag", lambda: plot.norm_by_lag(runs))


def save(stem: Path, paint: Callable[[], Axes | Figure]) -> None:
    """Save a figure; without the variable that it shows, say which recorder makes it."""
    from gradsim import plot

    try:
        axes = paint()
    except InputError as error:
        click.echo(f"No figure {stem}: {error}", err=True)
    else:
        plot.save(axes, stem)
