"""The same run over fewer steps, and how long its stages take."""

from __future__ import annotations

import tempfile
import time
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gradsim.contracts.plugin import drawn
from gradsim.contracts.problem import Pairs
from gradsim.contracts.task import Episode
from gradsim.data.sink import Sink
from gradsim.machine.clock import Clock
from gradsim.machine.quiet import without_warnings
from gradsim.run.arguments import as_dtype
from gradsim.run.launch import Running, executed
from gradsim.run.prepared import Simulation
from gradsim.types import Array

EVERYTHING = float(2**60)
"""A budget of memory with which nothing has to be done twice."""


@dataclass(frozen=True)
class Trial:
    """Seconds in all, and by stage for each unit of `Plan.work`."""

    seconds: float
    rates: dict[str, float]


def trial(simulation: Simulation, threads: int) -> Trial:
    """Run it, into memory or a store that is thrown away, with no step taken again.

    Raises
    ------
    GradsimError
        It fails, or does not fit into memory.
    """
    simulation.refuse_beyond(None, None)
    start, clock = time.perf_counter(), Clock()

    def fill(sink: Sink) -> dict[str, Any]:
        shown = nullcontext(lambda stage, flops: clock.lap(stage))
        return executed(simulation, Running(sink, threads, EVERYTHING), shown)

    with tempfile.TemporaryDirectory(prefix="gradsim-") as folder, without_warnings():
        # Those of values the run itself will say.
        if simulation.plan.in_memory:
            kept = simulation.memory_sink()
            for name in kept.variables:
                kept.read(name)
            clock.lap("writing")  # for memory this is to make room
            kept.dataset(fill(kept))
        else:
            stored = simulation.zarr_sink(Path(folder, "data.zarr"))
            stored.finish(fill(stored))
    work = simulation.plan.work(EVERYTHING)
    rates = {stage: clock.total(stage) / units for stage, units in work.items() if units > 0}
    return Trial(time.perf_counter() - start, rates)


def shortened(simulation: Simulation, steps: int, batch: int) -> Simulation:
    """The last steps of a run, where the losses are, for the first batch elements."""
    setup, plan = simulation.setup, simulation.plan

    def cut(array: Array) -> Array:
        return np.array(array[-steps:, :batch])

    whole, episode = plan.problem, setup.episode
    problem = replace(whole, steps=steps, batch=batch, pairs=_fitting(whole.pairs, whole.steps, steps))
    inputs, rng = cut(setup.inputs), np.random.default_rng(0)
    offered = {"cell": whole.cell, "shapes": whole.param_shapes}
    draws = {m: drawn(m.draw, rng, inputs, setup.moment, **offered) for m in setup.draws}
    short = replace(
        setup,
        inputs=inputs,
        initial_state=setup.initial_state[:batch].copy(),
        step_data={n: cut(x) for n, x in setup.step_data.items()},
        episode=episode and Episode(cut(episode.inputs), cut(episode.targets), cut(episode.weights)),
        draws={m: as_dtype(found, whole.dtype) for m, found in draws.items()},
    )
    return replace(
        simulation, setup=short, plan=replace(plan, problem=problem, tiled=not plan.halved, snapshots=None)
    )


def _fitting(pairs: Pairs, whole: int, steps: int) -> Pairs:
    """Times and sources at the same fractions of the run; the lags that there are."""

    def moved(chosen: tuple[int, ...] | None) -> tuple[int, ...] | None:
        return chosen and tuple(sorted({round(i % (whole + 1) * steps / whole) for i in chosen}))

    lags = pairs.lags and (tuple(lag for lag in pairs.lags if lag <= steps) or (steps,))
    return replace(pairs, times=moved(pairs.times), sources=moved(pairs.sources), lags=lags)
