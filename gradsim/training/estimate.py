"""How long a training will take: what its first updates tell."""

from __future__ import annotations

import dataclasses

from gradsim.machine.clock import Clock
from gradsim.training.prepared import PreparedTraining
from gradsim.training.settings import Stopping

_TRIED = 6
"""Updates that are done to see how long one takes."""

COUNTED = {"update": "update", "probe_update": "probe", "validation_update": "validation"}
"""Dim -> event."""


def seconds(training: PreparedTraining, threads: int | None = None) -> float:
    """What all updates, probes and validations take, if they take what the first ones do.

    Raises
    ------
    GradsimError
        The first updates failed, as the training would.
    """
    setup, clock = training.setup, Clock()
    endless = dataclasses.replace(setup.given, stop=Stopping())
    few = dataclasses.replace(setup, updates=min(_TRIED, setup.updates), given=endless)
    shorter = dataclasses.replace(training, setup=few)
    shorter.run(threads=threads, progress=False, report=lambda e: clock.lap(e["event"]))
    lengths = setup.lengths(setup.updates)
    return sum(lengths[dim] * clock.usual(event) for dim, event in COUNTED.items())
