"""What all benchmarks say beside their numbers: the spread of ratios, the machine, the versions."""

from __future__ import annotations

import os
import platform
import statistics
from pathlib import Path

from matplotlib.figure import Figure


def spread(values):
    """[lower quartile, median, upper quartile]."""
    low, _, high = (
        statistics.quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * list(values)
    )
    return [low, statistics.median(values), high]


def ratios(times, base="gradsim"):
    """Of each peer: its time over that of `base` in the same round, with spread."""
    pairs = {name: zip(found, times[base], strict=True) for name, found in times.items() if name != base}
    return {name: spread([peer / own for peer, own in both]) for name, both in pairs.items()}


def middle(value):
    """The median, of a number with or without spread."""
    return value[1] if isinstance(value, list) else value


def machine(*modules):
    """Processor, cores and the versions of these modules."""
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        **{module.__name__: module.__version__ for module in modules},
    }


def _processor():
    """Its name where Linux tells it, else its kind."""
    file = Path("/proc/cpuinfo")
    lines = file.read_text().splitlines() if file.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def dot_figure(results, looks, xlabel, path, row=0.3):
    """Ratios by work, see `dots`, as a figure in a file, `row` inches high for each work."""
    figure = Figure(figsize=(6.8, row * len(results) + 1.4), layout="constrained")
    ax = figure.subplots()
    dots(ax, results, looks)
    ax.set(xscale="log", xlabel=xlabel)
    figure.legend(frameon=False, loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=200)


def dots(ax, results, looks):
    """Ratios by work: a marker for each of the peers in `looks`, and its spread as a line."""
    for name, (marker, colour, label) in looks.items():
        there = [(row[name], i) for i, row in enumerate(results.values()) if name in row]
        if not there:
            continue
        ax.plot(*zip(*((middle(v), i) for v, i in there), strict=True), marker, color=colour, label=label)
        for value, i in there:
            if isinstance(value, list):
                ax.plot([value[0], value[2]], [i, i], color=colour, linewidth=1)
    ax.set_yticks(range(len(results)), [row["label"] for row in results.values()])
    ax.axvline(1, color="0.6", linewidth=0.8, zorder=0)
    ax.invert_yaxis()
    ax.spines[["top", "right"]].set_visible(False)
