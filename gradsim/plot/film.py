"""The heat map as a film: one picture a probe."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import xarray as xr
from annotated_types import Interval
from matplotlib.animation import FFMpegWriter, PillowWriter
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradsim.analysis.choose import describe_size
from gradsim.errors import InputError, StoreError, shown
from gradsim.plot import style
from gradsim.plot.files import Dpi
from gradsim.plot.heat import heat_colorbar, heat_limits
from gradsim.plot.probes import panel, spread_probes

_WRITERS: dict[str, type[PillowWriter] | type[FFMpegWriter]] = {".gif": PillowWriter, ".mp4": FFMpegWriter}


def animate_gain_heat_map(
    ds: xr.Dataset,
    path: str | os.PathLike[str],
    *,
    fps: Annotated[float, Interval(ge=0.01, le=1000)] = 4,
    variable: str = "gain",
    batch: int = 0,
    dpi: Dpi = 150,
) -> Path:
    """Write the gain of P(t, k) over source and time as a film, one picture a probe, on one colour scale.

    Parameters
    ----------
    path
        Ends in .gif, which needs nothing else, or in .mp4, which needs ffmpeg.
    fps
        Pictures, so probes, in a second.
    """
    path = Path(path)
    writer = _writer(path, fps)
    probes = spread_probes(ds)
    limits = heat_limits(*probes, variable=variable, batch=batch)
    with style.applied():
        figure, ax = _stage(limits, describe_size(probes[0], variable))
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with writer.saving(figure, str(path), dpi):
                for probe in probes:
                    ax.clear()
                    panel(ax, probe, limits, variable=variable, batch=batch)
                    _hold_still(figure)
                    writer.grab_frame()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise StoreError(f"cannot write the film {shown(str(path))}: {reason}") from error
    return path


def _writer(path: Path, fps: float) -> PillowWriter | FFMpegWriter:
    if (kind := path.suffix.lower()) not in _WRITERS:
        raise InputError(f"a film should end in .gif or .mp4 (got {path.name!r})")
    if not _WRITERS[kind].isAvailable():
        raise InputError(f"{path.name} needs the program ffmpeg, which is not installed: use .gif")
    return _WRITERS[kind](fps=fps)  # type: ignore[arg-type]


def _stage(limits: tuple[float, float], label: str) -> tuple[Figure, Axes]:
    figure = style.new_figure(style.COLUMN, 3.1)
    ax = figure.add_subplot()
    heat_colorbar([ax], limits, label)
    return figure, ax


def _hold_still(figure: Figure) -> None:
    """Keep the layout of the first picture."""
    if figure.get_layout_engine() is not None:
        figure.draw_without_rendering()
        figure.set_layout_engine("none")
