"""What one gradient costs with some mitigations, and how it varies with what they draw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from operator import itemgetter
from time import perf_counter
from typing import Any

import numpy as np
import xarray as xr

from gradsim.comparison.members import Member
from gradsim.contracts.pieces import Both, Gradient
from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import Recorder, Variable
from gradsim.machine.clock import Clock
from gradsim.machine.progress import Advance, unseen
from gradsim.numerics.scaled import Scaled, euclidean, or_zero
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


@dataclass(frozen=True, eq=False)
class _Gradients(Recorder):
    """Keeps the exact and the effective gradient of each run, by parameter: vectors of any range."""

    name = "gradients"
    stream = Gradient
    both = True

    kept: list[list[dict[str, Scaled]]] = field(default_factory=list)

    def variables(self, problem: Problem) -> tuple[Variable, ...]:
        return ()

    def compute(self, piece: Both) -> dict[str, Array]:  # type: ignore[override]
        flows = piece.raw, piece.effective
        self.kept.append([{n: _vector(part) for n, part in flow.parts.items()} for flow in flows])
        return {}


def _vector(part: Scaled) -> Scaled:
    """Its largest number is about 1, beside the exponent."""
    return Scaled(part.mantissa.astype(np.float64).ravel(), part.exponent.reshape(1)).settled(keep=0)


def spread(member: Member, seed: int, running: Running, replicates: int) -> dict[str, Any]:
    """How the gradient varies over replicates, by parameter and of all together: name -> {param: value}.

    Replicates differ in what the mitigations draw alone. With g~ the effective gradient, g the exact one and
    means over replicates: the variance is the sum of ||g~ - mean g~||^2 over one less than their number, over
    ||mean g||^2, and the bias of the mean ||mean (g~ - g)|| over ||mean g||. As with `gradient_bias` nothing
    over nothing is 0.
    """
    gradients = _Gradients()
    for i in range(replicates):
        run = prepare(member.cell, rng=seed, **{**member.settings, "record": [gradients], "replicate": i})
        record(run, running)
        if not any(run.setup.draws.values()) and not run.setup.step_data:  # they would all be the same
            gradients.kept.extend(gradients.kept * (replicates - 1))
            break
    names = list(run.problem.param_shapes)
    by_param = {n: _spread(gradients.kept, [n]) for n in names}
    overall = _spread(gradients.kept, names)
    return {
        **{name: {n: values[i] for n, values in by_param.items()} for i, name in enumerate(SPREAD)},
        **{f"overall_{name}": overall[i] for i, name in enumerate(SPREAD)},
    }


def _spread(gradients: Sequence[Sequence[Mapping[str, Scaled]]], names: Sequence[str]) -> tuple[float, float]:
    """Variance, and bias of the mean, of the vectors that these parameters make together."""
    parts = [[[flow[n] for n in names] for flow in both] for both in gradients]
    top = or_zero(np.max([p.top(-1) for both in parts for flow in both for p in flow]))
    vectors = np.array([[np.concatenate([p.over(top) for p in flow]) for flow in both] for both in parts])
    exact, effective = vectors[:, 0], vectors[:, 1]
    size = euclidean(exact.mean(axis=0))
    moved = effective - effective[0]  # exactly zero where nothing is random
    varies = _over(euclidean(moved - moved.mean(axis=0)), size) ** 2 / (len(moved) - 1)
    return float(varies), float(_over(euclidean((effective - exact).mean(axis=0)), size))


def _over(one: float, other: float) -> np.float64:
    with np.errstate(divide="ignore", over="ignore"):
        return np.divide(one, other) if one else np.float64(0)
