"""What `gradsim plan` says beforehand next to what a run then takes: memory, disk, time.

    python benchmarks/plan.py                  # all runs, about two minutes
    python benchmarks/plan.py --runs lstm_long products_stored

The plan is made in one fresh process and the run in another. Memory is the peak of the resident set of
the process (VmHWM), time that of `Simulation.run` with whatever it loads, disk the size of all files.

Writes plan.json beside this file.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import gradsim
from gradsim import Pairs
from gradsim.run.estimate import estimate
from gradsim_cells import GRU, LSTM, Elman, MinGRU
from gradsim_mitigations import ClipNorm, JacobianPenalty, Truncate
from gradsim_tasks import Adding

HERE = Path(__file__).parent
BACK = ["adjoint_norm", "gradient"]


@dataclass(frozen=True)
class UpdateGate(gradsim.Cell):
    """A cell with nothing but its step: all derivatives are free."""

    name = "update_gate"
    size: int = 16
    input_size: int = 2

    @property
    def blocks(self):
        return {"h": self.size}

    def init_params(self, rng):
        shapes = {"U": self.size, "W": self.input_size}
        return {n: rng.standard_normal((self.size, k)) / k**0.5 for n, k in shapes.items()}

    def step(self, params, state, inputs, xp):
        x = inputs @ params["W"].T
        u = 1 / (1 + xp.exp(-(state @ params["U"].T + x)))
        return u * state + (1 - u) * xp.tanh(x)


# name: cell, steps, batch, what is recorded, whether it is stored, and what else `prepare` takes.
RUNS = {
    "small": (Elman(2, 8), 60, 2, ["product_norm", "adjoint_norm", "lyapunov"], False, {}),
    "lstm_long": (LSTM(2, 64), 20_000, 8, BACK, False, {}),
    "lstm_wide": (LSTM(2, 256), 400, 16, BACK, False, {"dtype": "float32"}),
    "recomputed": (GRU(2, 64), 30_000, 4, ["adjoint", "contribution_norm"], True, {}),
    "contributions": (Elman(2, 32), 5_000, 4, ["contribution"], True, {}),
    "states": (Elman(2, 64), 10_000, 16, ["state", "adjoint"], True, {"dtype": "float32"}),
    "free": (UpdateGate(), 1_500, 4, [*BACK, "lyapunov"], False, {}),
    "free_norms": (UpdateGate(24), 300, 4, ["product_norm"], False, {}),
    "halving": (Elman(2, 64), 1_000, 8, ["product_norm"], True, {"dtype": "float32"}),
    "halving_large": (LSTM(2, 64), 1_500, 2, ["product_norm"], False, {}),
    "diagonal": (MinGRU(2, 256), 1_000, 4, ["product_norm"], True, {}),
    "tiles": (GRU(2, 8), 6_500, 1, ["product_norm"], True, {"dtype": "float32"}),
    "band": (GRU(2, 32), 5_000, 4, ["product_norm"], False, {"pairs": Pairs(max_lag=100)}),
    "products": (Elman(2, 32), 150, 2, ["jacobian_product"], False, {}),
    "products_stored": (LSTM(2, 16), 300, 2, ["jacobian_product"], True, {"dtype": "float32"}),
    "spectra": (GRU(2, 16), 250, 2, ["product_spectrum"], False, {}),
    "rows": (GRU(2, 16), 800, 2, ["loss_adjoint_norm"], False, {}),
    "lyapunov": (LSTM(2, 24), 2_000, 4, ["lyapunov", "step_jacobian"], True, {}),
    "truncated": (
        GRU(2, 32), 5_000, 4, [f"{e}{n}" for e in ("", "effective_") for n in BACK], False,
        {"mitigations": [Truncate(20, 40), JacobianPenalty()]},
    ),
    "clipped": (
        LSTM(2, 32), 3_000, 8, ["effective_adjoint_norm", "effective_gradient"], False,
        {"mitigations": [ClipNorm(0.1, where="adjoint")]},
    ),
}  # fmt: skip


def prepared(name):
    cell, steps, batch, record, stored, more = RUNS[name]
    task = Adding(length=steps)
    return gradsim.prepare(cell, task=task, batch=batch, record=record, in_memory=not stored, **more)


def planned(name):
    """What the plan says."""
    simulation = prepared(name)
    start = time.perf_counter()
    found = estimate(simulation)
    took = time.perf_counter() - start
    disk = 0 if simulation.plan.in_memory else simulation.plan.data_bytes
    return {"memory": found.peak, "disk": disk, "seconds": found.time, "took": took}


def ran(name):
    """What the run takes."""
    simulation = prepared(name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", gradsim.errors.OutOfRangeWarning)
        start = time.perf_counter()
        simulation.run(store=None if simulation.plan.in_memory else Path(folder, "run"))
        seconds = time.perf_counter() - start
        disk = sum(f.stat().st_size for f in Path(folder).rglob("*") if f.is_file())
    return {"memory": peak(), "disk": disk, "seconds": seconds}


def peak():
    """The peak of the resident set of this process, bytes. (ru_maxrss may be that of the parent.)"""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def fresh(what, name):
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--inside", what, name]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def line(name, plan, run):
    parts = [f"{name:16}"]
    for what, unit in (("memory", 1e6), ("disk", 1e6), ("seconds", 1)):
        ratio = f"{plan[what] / run[what]:.2f}" if run[what] else "-"
        parts.append(f"{plan[what] / unit:10.4g}{run[what] / unit:10.4g}{ratio:>6}")
    return "".join(parts) + f"{plan['took']:8.2f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", nargs="*", default=list(RUNS), choices=list(RUNS))
    parser.add_argument("--inside", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        what, name = options.inside
        print(json.dumps({"planned": planned, "ran": ran}[what](name)))
        return
    print(f"{'planned, real, ratio':22}memory (MB){'disk (MB)':>24}{'time (s)':>26}{'to plan (s)':>17}")
    results = {}
    for name in options.runs:
        results[name] = {what: fresh(what, name) for what in ("planned", "ran")}
        print(line(name, *results[name].values()), flush=True)
    if options.runs == list(RUNS):
        machine = {"processor": platform.machine(), "cores": os.cpu_count(), "numpy": np.__version__}
        (HERE / "plan.json").write_text(json.dumps({"machine": machine, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
