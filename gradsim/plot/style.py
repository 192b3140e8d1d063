"""How the figures look: sizes, fonts, and lines that differ in colour, dash and marker."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gradsim.types import PositiveFloat

COLUMN, PAGE = 3.5, 7.2
"""Widths in inches of one column and of the whole page of a paper."""

_RC: Any = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "legend.handlelength": 2.6,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "xtick.minor.width": 0.4,
    "ytick.minor.width": 0.4,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "xtick.minor.size": 1.6,
    "ytick.minor.size": 1.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.5,
    "hatch.linewidth": 0.5,
    "figure.facecolor": "white",
    "mathtext.fontset": "dejavusans",
}

_TICKS: Any = {"labelsize": 7, "width": 0.6, "length": 3}
"""Said again on the axes: matplotlib makes ticks late, outside `applied`."""

# Okabe & Ito (2008), told apart by all kinds of colour vision; the yellow is too light for a line.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000")
_DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (5, 1.5, 1.2, 1.5)), (0, (8, 2)))
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def applied() -> AbstractContextManager[None]:
    """The style, for the figures and axes made in this context only."""
    return matplotlib.rc_context(_RC)


def new_figure(width: PositiveFloat = COLUMN, height: PositiveFloat = 2.6) -> Figure:
    """A figure of this size in inches, without pyplot, so that nothing needs closing or a display."""
    return Figure(figsize=(width, height), layout="constrained")


@contextmanager
def axes(ax: Axes | None, width: float = COLUMN, height: float = 2.6) -> Iterator[Axes]:
    """The given axes as they are, or styled ones on a figure of their own."""
    if ax is not None:
        yield ax
        return
    with applied():
        own = new_figure(width, height).add_subplot()
        own.tick_params(**_TICKS)
        yield own


def lines() -> Iterator[dict[str, Any]]:
    """Line after line, each distinct without colour too."""
    for i in itertools.count():
        yield {
            "color": COLOURS[i % len(COLOURS)],
            "linestyle": _DASHES[i % len(_DASHES)],
            "marker": _MARKERS[i % len(_MARKERS)],
            "markeredgewidth": 0,
        }


_DERIVATIVE = re.compile(r"\bd([A-Za-z](?:_\w)?)/d([A-Za-z](?:_(?:\w|\{[^}]*\}))?)(?![\w{])")


def typeset(text: str) -> str:
    """A label with its derivatives, such as ds_t/ds_k, as mathematics; its first letter large."""
    text = _DERIVATIVE.sub(r"$\\partial \1/\\partial \2$", text)
    return text[:1].upper() + text[1:]
