"""What one gradient costs with some mitigations, and how it varies with what they draw."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from gradsim.comparison.members import Member
from gradsim.contracts.recorder import Variable
from gradsim.machine.clock import Clock
from gradsim.machine.progress import Advance, unseen
from gradsim.run.launch import Running, executed
from gradsim.run.prepared import Simulation
from gradsim.simulation import prepare
from gradsim.types import Array

_REPEATS = 3
"""Of which the shortest time counts."""

GRADIENT = ["effective_gradient_norm"]
"""What makes a run go forward and back once, and do nothing else."""

_BACK = ("step Jacobians", "backward", "mitigations")
"""The stages of such a run between the way forward and the end."""

PLANNED = {
    "forward_flops": "planned operations of the forward pass",
    "backward_flops": "planned operations of the way back, or of the rule in its place",
    "memory_bytes": "planned memory of one gradient",
}
MEASURED = {
    "forward_seconds": "measured time of the forward pass",
    "backward_seconds": "measured time of the way back, or of the rule in its place",
    "gradient_seconds": "measured time of one gradient, with what it takes to start",
}
SPREAD = {
    "gradient_variance": "variance of the gradient over draws of the mitigations, over its squared norm",
    "mean_gradient_bias": "norm of mean effective minus mean exact gradient, over that of the exact one",
}
"""The variables, and what they are."""


def variables(replicates: int) -> list[Variable]:
    """Those of every cell, mitigation and seed."""
    units = {"memory_bytes": "byte"} | dict.fromkeys(MEASURED, "s")
    found = [
        Variable(name, (), what, units.get(name, "1"), dtype="float64")
        for name, what in (PLANNED | MEASURED).items()
    ]
    for name, what in SPREAD.items() if replicates > 1 else ():
        found += [
            Variable(name, ("param",), f"{what}, by parameter", dtype="float64"),
            Variable(f"overall_{name}", (), what, dtype="float64"),
        ]
    return found


def costs(member: Member, seed: int, running: Running) -> dict[str, float]:
    """What one gradient takes: as planned, and measured."""
    whole = prepare(member.cell, rng=seed, **member.settings, record=GRADIENT)
    flops = whole.plan.flops()
    silent = whole.plan.has_rule and not flops["mitigations"]
    return {
        "forward_flops": flops["forward"],
        "backward_flops": np.nan if silent else sum(flops.values()) - flops["forward"],
        "memory_bytes": whole.plan.memory_bytes,
        **min((_seconds(whole, running) for _ in range(_REPEATS)), key=itemgetter("gradient_seconds")),
    }


def _seconds(run: Simulation, running: Running) -> dict[str, float]:
    """What a run takes, in all and on its way forward and back."""
    start, clock = perf_counter(), Clock()
    record(run, running, lambda stage, work: clock.lap(stage))
    return {
        "forward_seconds": clock.total("forward"),
        "backward_seconds": sum(map(clock.total, _BACK)),
        "gradient_seconds": perf_counter() - start,
    }


def record(run: Simulation, running: Running, advance: Advance = unseen) -> xr.Dataset:
    """What a run records, in memory."""
    sink = run.memory_sink()
    told = executed(run, Running(sink, running.threads, running.memory), nullcontext(advance))
    return sink.dataset(told)


def spread(member: Member, seed: int, running: Running, replicates: int) -> dict[str, Any]:
    """How the gradient varies over replicates, by parameter and of all together: name -> {param: value}.

    Replicates differ in what the mitigations draw alone. With g~ the effective gradient, g the exact one and
    means over replicates: the variance is the sum of ||g~ - mean g~||^2 over one less than their number, over
    ||mean g||^2, and the bias of the mean ||mean (g~ - g)|| over ||mean g||.
    """
    found: list[tuple[Mapping[str, Array], Mapping[str, Array]]] = []
    for i in range(replicates):
        how = {**member.settings, "record": ["gradient", "effective_gradient"], "replicate": i}
        run = prepare(member.cell, rng=seed, **how)
        ds = record(run, running)
        names = run.problem.param_shapes
        exact, effective = (
            {n: ds[f"{flow}gradient_{n}"].values for n in names} for flow in ("", "effective_")
        )
        found.append((exact, effective))
        if not any(run.setup.draws.values()):  # they would all be the same
            found *= replicates
            break
    exact, effective = (
        {n: np.stack([one[flow][n].ravel() for one in found]) for n in names} for flow in (0, 1)
    )
    by_param = {n: _spread(exact[n], effective[n]) for n in names}
    overall = _spread(*(np.concatenate([*each.values()], axis=1) for each in (exact, effective)))
    return {
        **{name: {n: values[i] for n, values in by_param.items()} for i, name in enumerate(SPREAD)},
        **{f"overall_{name}": overall[i] for i, name in enumerate(SPREAD)},
    }


def _spread(exact: Array, effective: Array) -> tuple[float, float]:
    """Variance, and bias of the mean, of vectors (replicate, n)."""
    size = np.linalg.norm(exact.mean(axis=0))
    away = np.linalg.norm((effective - exact).mean(axis=0))
    moved = effective - effective[0]  # exactly zero where nothing is random
    variance = np.sum((moved - moved.mean(axis=0)) ** 2) / (len(moved) - 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        return float(variance / size**2), float(away / size)
