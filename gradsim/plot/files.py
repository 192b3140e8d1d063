"""Figures as files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import matplotlib
from annotated_types import Interval
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from gradsim.errors import StoreError, shown

Dpi = Annotated[int, Interval(gt=0, le=10_000)]
"""Dots in an inch; figures of more could not be held in memory."""


def save(
    figure: Figure | SubFigure | Axes, path_stem: str | os.PathLike[str], *, dpi: Dpi = 220
) -> tuple[Path, Path]:
    """Write a figure as <path_stem>.png and <path_stem>.svg; the same figure gives the same bytes.

    Returns
    -------
    tuple of Path
        The PNG and the SVG.
    """
    whole = figure.get_figure(root=True) if isinstance(figure, Axes) else figure.figure
    assert isinstance(whole, Figure)
    stem = Path(path_stem)
    png, svg = (stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg"))
    with matplotlib.rc_context({"svg.hashsalt": "gradsim", "svg.fonttype": "path"}):
        try:
            stem.parent.mkdir(parents=True, exist_ok=True)
            whole.savefig(png, dpi=dpi, pil_kwargs={"optimize": True})
            whole.savefig(svg, dpi=dpi, metadata={"Date": None})
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else error
            raise StoreError(f"cannot write the figure {shown(str(stem))}: {reason}") from error
    return png, svg
