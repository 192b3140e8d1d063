"""How long a run will take and how much memory it will use: what trials of a second or so tell."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from gradsim.machine.workers import available_threads
from gradsim.run.prepared import Simulation
from gradsim.run.trial import EVERYTHING, shortened, trial

_FIRST_SECONDS = 0.01
_LAST_SECONDS = 0.5
_TRIALS = 5
_LONGER = 30
"""A trial should not be longer than so many times the one before."""

_STEPS = 64
"""A trial is cut to fewer steps only when its batch cannot be cut any more."""

_NOMINAL = 1e-9
"""Seconds an operation, of what no trial has measured."""

_START_SECONDS = 1.5
"""What it takes at most to load libraries. Beyond that kernels were compiled, which happens once."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    `seconds` by stage, "start" for what does not depend on the length of the run. `program`: bytes of
    the process without the run. `run`: bytes of the run at its peak, with all that it keeps to be quick.
    """

    seconds: Mapping[str, float]
    program: int
    run: int

    @property
    def time(self) -> float:
        """Seconds in all."""
        return sum(self.seconds.values())

    @property
    def peak(self) -> int:
        """Bytes of the process at its peak."""
        return self.program + self.run


def estimate(simulation: Simulation, threads: int | None = None, memory: float | None = None) -> Estimate:
    """Try shorter runs, and say what the whole one will take.

    Parameters
    ----------
    simulation
        From `prepare`; it is not changed.
    threads, memory
        As they will be given to `Simulation.run`.

    Raises
    ------
    GradsimError
        A trial failed as the run would, for example because states are not finite.
    """
    plan, threads = simulation.plan, available_threads(threads)
    drawn = simulation.setup.inputs.shape[1] / plan.problem.batch
    rates: Mapping[str, float] = defaultdict(lambda: _NOMINAL)
    size = _size(simulation, rates, _FIRST_SECONDS, threads)
    first = trial(shortened(simulation, *size), threads)
    program = psutil.Process().memory_info().rss - round(plan.memory()["inputs"] * drawn)
    for _ in range(_TRIALS):
        last = trial(shortened(simulation, *size), threads)
        rates = defaultdict(lambda: _NOMINAL, last.rates)
        longer = _size(simulation, rates, min(_LAST_SECONDS, _LONGER * last.seconds), threads)
        if math.prod(longer) < 2 * math.prod(size):
            break
        size = longer
    work = plan.work(memory)
    seconds = {stage: rates[stage] * units for stage, units in work.items() if units}
    start = {"start": min(first.seconds, _START_SECONDS)}
    return Estimate({**start, **seconds}, program, plan.expected_bytes(memory))


def _size(
    simulation: Simulation, rates: Mapping[str, float], seconds: float, threads: int
) -> tuple[int, int]:
    """Steps and batch of a run that takes so long; the batch is cut before the steps get few."""
    problem, drawn = simulation.plan.problem, simulation.setup.inputs.shape[1]

    def time(steps: int, batch: int) -> float:
        plan = shortened(simulation, steps, batch).plan
        return sum(rates[s] * units for s, units in plan.work(EVERYTHING).items())

    def most(low: int, high: int, batch: int) -> int:
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (middle, high) if time(middle, batch) <= seconds else (low, middle - 1)
        return low

    some, batch = min(_STEPS, problem.steps), drawn
    if (least := time(some, batch)) <= seconds:
        return most(some, problem.steps, batch), batch
    batch = min(batch, max(threads, int(batch * seconds / least)))
    return most(1, some, batch), batch
