"""How time and memory of a run grow with its steps T, the size m of the state, and the batch B.

    python benchmarks/scaling.py            # all points, about four minutes
    python benchmarks/scaling.py --quick    # every other point, and no files

A GRU in float64. Every point is a fresh process, which does a very short run before anything is measured:
memory is the peak of the resident set less what it was before the run; time is the median of as many
runs as fit into a second, at least one. Dashed lines are the laws expected of large problems:

- adjoints and gradient: T m^2 B; memory T m B, until what is kept of the way there reaches 64 MiB and
  steps are taken again on the way back instead;
- norms of all products: T^2 m^2 B + T log(T) m^3 B, so T^2 in time and m^3 in the state where m > T;
  memory T m^2 B for the step Jacobians and T^2 B for the norms;
- Lyapunov exponents: T m^3 B; memory by blocks of steps of up to 8 MiB of Jacobians.

Small problems lie above the laws in time, because every call from Python takes a few microseconds, and in
memory, because buffers of a few megabytes are there whatever the size.

Writes scaling.json and scaling.png beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import psutil
from matplotlib.figure import Figure
from plan import peak

import gradsim
from gradsim.run.trial import shortened
from gradsim_cells import GRU

HERE = Path(__file__).parent
BASE = {"T": {"m": 32, "B": 4}, "m": {"T": 100, "B": 2}, "B": {"T": 200, "m": 32}}
RECORD = {
    "adjoints": ["adjoint_norm", "gradient"],
    "norms": ["product_norm"],
    "exponents": ["lyapunov"],
}
VALUES = {
    "T": {
        "adjoints": [100, 300, 1_000, 3_000, 10_000, 30_000, 100_000],
        "norms": [100, 200, 400, 800, 1_600, 3_200],
        "exponents": [100, 300, 1_000, 3_000, 10_000],
    },
    "m": {
        "adjoints": [8, 16, 32, 64, 128, 256, 512, 1_024],
        "norms": [8, 16, 32, 64, 128, 256, 512],
        "exponents": [8, 16, 32, 64, 128, 256, 512],
    },
    "B": {what: [1, 2, 4, 8, 16, 32, 64, 128, 256] for what in RECORD},
}
TIME_LAWS = {
    "T": {"adjoints": 1, "norms": 2, "exponents": 1},
    "m": {"adjoints": 2, "norms": 3, "exponents": 3},
    "B": {"adjoints": 1, "norms": 1, "exponents": 1},
}
MEMORY_LAWS = {
    "T": {"norms": 2},
    "m": {"norms": 2},
    "B": {"adjoints": 1, "norms": 1},
}
NAMES = {
    "adjoints": "adjoints, gradient",
    "norms": "norms of all products",
    "exponents": "Lyapunov exponents",
}
LOOKS = {"adjoints": ("#0072B2", "o"), "norms": ("#D55E00", "s"), "exponents": ("#009E73", "^")}
AXES = {"T": "Steps T (1)", "m": "Size of the state m (1)", "B": "Batch B (1)"}


def measured(what, size):
    """Seconds and bytes of a run, in this process."""
    warnings.simplefilter("ignore", gradsim.errors.OutOfRangeWarning)
    inputs = np.random.default_rng(0).standard_normal((size["T"], size["B"], 2))
    simulation = gradsim.prepare(GRU(2, size["m"]), inputs, record=RECORD[what])
    shortened(simulation, 10, min(2, size["B"])).run()
    before = psutil.Process().memory_info().rss
    seconds = [taken(simulation)]
    grown = max(0, peak() - before)
    while sum(seconds) < 1:
        seconds.append(taken(simulation))
    return {"seconds": statistics.median(seconds), "bytes": grown}


def taken(simulation):
    start = time.perf_counter()
    simulation.run()
    return time.perf_counter() - start


def fresh(what, size):
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--inside", what, json.dumps(size)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def sweep(axis, what, step):
    """One quantity against one size: the sizes, seconds and bytes."""
    points = {"sizes": VALUES[axis][what][::step], "seconds": [], "bytes": []}
    for value in points["sizes"]:
        found = fresh(what, BASE[axis] | {axis: value})
        seconds, size = found["seconds"], found["bytes"] / 1e6
        print(f"{axis} {value:7d}  {what:10} {seconds:9.4f} s {size:9.1f} MB", flush=True)
        for name in ("seconds", "bytes"):
            points[name].append(found[name])
    return points


def slope(points, name):
    """The exponent of the last two points."""
    (x0, x1), (y0, y1) = points["sizes"][-2:], points[name][-2:]
    return np.log(y1 / y0) / np.log(x1 / x0)


def draw(results):
    figure = Figure(figsize=(7.2, 4.8), layout="constrained")
    grid = figure.subplots(2, 3, sharex="col", sharey="row")
    for column, axis in enumerate(results):
        for row, (name, unit, laws) in enumerate((("seconds", 1, TIME_LAWS), ("bytes", 1e6, MEMORY_LAWS))):
            ax = grid[row, column]
            for what, points in results[axis].items():
                curve(ax, what, points["sizes"], np.array(points[name]) / unit, laws[axis].get(what), axis)
            ax.set(xscale="log", yscale="log")
            ax.set_xlim(right=5 * max(p["sizes"][-1] for p in results[axis].values()))
            ax.spines[["top", "right"]].set_visible(False)
        grid[0, column].set_title(", ".join(f"{n} = {v}" for n, v in BASE[axis].items()), fontsize=9)
        grid[1, column].set_xlabel(AXES[axis])
    grid[0, 0].set_ylabel("Time (s)")
    grid[1, 0].set_ylabel("Memory of the run (MB)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(HERE / "scaling.png", dpi=200)


def curve(ax, what, sizes, values, law, axis):
    """Points, and the law through the last of them."""
    colour, marker = LOOKS[what]
    ax.plot(sizes, values, marker, linestyle="-", color=colour, markersize=4, linewidth=1, label=NAMES[what])
    if law is not None:
        far = sizes[-1] * np.array([30 ** (-1 / law), 1])
        ax.plot(far, values[-1] * (far / sizes[-1]) ** law, "--", color=colour, linewidth=0.8, zorder=0)
        power = rf"$\propto {axis}$" if law == 1 else rf"$\propto {axis}^{law}$"
        place = {"xytext": (5, 0), "va": "center", "textcoords": "offset points", "fontsize": 8}
        ax.annotate(power, (sizes[-1], values[-1]), color=colour, **place)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="Every other point, and no files.")
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(json.dumps(measured(options.inside[0], json.loads(options.inside[1]))))
        return
    step = 2 if options.quick else 1
    results = {axis: {what: sweep(axis, what, step) for what in RECORD} for axis in BASE}
    for axis, curves in results.items():
        for what, points in curves.items():
            print(f"{what:10} {axis}^{slope(points, 'seconds'):.2f}, expected {axis}^{TIME_LAWS[axis][what]}")
    if not options.quick:
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "numpy": np.__version__}
        record = {"machine": machine, "base": BASE, "results": results}
        (HERE / "scaling.json").write_text(json.dumps(record, indent=2) + "\n")
        draw(results)


if __name__ == "__main__":
    main()
