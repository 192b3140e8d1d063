"""What a training would cost."""

from __future__ import annotations

import dataclasses
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import TYPE_CHECKING, Any

from gradsim.cli.output import console
from gradsim.cli.plan import duration, variables
from gradsim.errors import GradsimError
from gradsim.machine.disk import human
from gradsim.training.prepared import PreparedTraining
from gradsim.training.settings import Stopping

if TYPE_CHECKING:
    from gradsim.experiment.kinds import TrainingExperiment

_TRIED = 6
"""Updates that are done to see how long one takes."""


def show_plans(
    runs: Sequence[TrainingExperiment], trainings: Sequence[PreparedTraining], threads: int | None
) -> None:
    """Print the plan of each training."""
    out = console()
    for run, training in zip(runs, trainings, strict=True):
        course = training.course
        steps, size = f"{course.problem.steps} steps", f"{course.flat.size} parameters"
        out.print(f"{run.name}: {run.cell.name} on {run.task.name}, {steps}, batch {run.batch}, {size}")
        out.print(f"{', '.join(_counts(training))}: {_time(training, threads)}")
        out.print(f"disk {human(sum(training.sizes().values()))} before compression")
        frame = course.frame()
        out.print(variables(course.variables(), frame.sizes, frame.dtype))


_COUNTED = {"update": "update", "probe_update": "probe", "validation_update": "validation"}
"""Dim -> event."""


def _counts(training: PreparedTraining) -> Iterator[str]:
    for dim, count in training.course.lengths(training.course.updates).items():
        if count:
            yield f"{count} {_COUNTED[dim]}{'s' if count > 1 else ''}"


def _time(training: PreparedTraining, threads: int | None) -> str:
    try:
        return f"about {duration(_seconds(training, threads))}"
    except GradsimError as error:
        return f"time not known, because the first updates failed: {error}"


def _seconds(training: PreparedTraining, threads: int | None) -> float:
    """What all of them take, if they take what the first ones do."""
    course, clock = training.course, _Clock()
    few = dataclasses.replace(course, updates=min(_TRIED, course.updates), stopping=Stopping())
    PreparedTraining(few).run(threads=threads, progress=False, report=clock)
    lengths = course.lengths(course.updates)
    return sum(lengths[dim] * clock.usual(event) for dim, event in _COUNTED.items())


class _Clock:
    """The time between two events goes to the later one."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, list[float]] = defaultdict(list)
        self._last = time.perf_counter()

    def __call__(self, event: Mapping[str, Any]) -> None:
        now = time.perf_counter()
        self.seconds[event["event"]].append(now - self._last)
        self._last = now

    def usual(self, event: str) -> float:
        return median(self.seconds[event] or [0.0])
