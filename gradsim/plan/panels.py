"""Which step Jacobians are kept at one time, for products: all, or a part of the batch or of the sources."""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import psutil

from gradsim.contracts.problem import Problem
from gradsim.contracts.recorder import LossRows
from gradsim.engine.layout import Tile, board_shape, cut, whole

if TYPE_CHECKING:
    from gradsim.plan.plan import Plan


@dataclass(frozen=True)
class Panel:
    """An area whose products are made at one time, and the steps whose Jacobians they take."""

    area: Tile
    steps: range

    def bytes(self, problem: Problem) -> int:
        """What these Jacobians take."""
        one = problem.cell.state_size * problem.block * problem.dtype.itemsize
        return int(len(self.steps) * (self.area.batch.stop - self.area.batch.start) * one)


def panels(plan: Plan, memory: float | None) -> list[Panel]:
    """The panels of a run, one after the other, in what a budget leaves for their Jacobians.

    Into batch elements first, which costs only that the run is taken again for each panel; then into
    sources. If nothing fits, into whole boards.
    """
    p = plan.problem
    if plan.penalty_needs_jacobians or not any(plan.keeps_jacobians(e) for e in (False, True)):
        return [Panel(whole(p), range(1, p.steps + 1))]
    every = p.sizes()["source"]
    sources, batch = board_shape(p)
    rows = plan.asks(LossRows)
    if plan.halved or rows:
        sources, batch = every, math.lcm(batch, plan.halved or 1)
    room = _room(plan, memory)

    def by_batch(count: int) -> list[Panel]:
        return _cut(p, (every, count * batch), rows)

    def by_source(count: int) -> list[Panel]:
        return _cut(p, (count * sources, batch), rows)

    def largest(found: list[Panel]) -> int:
        return max(panel.bytes(p) for panel in found)

    way, units = by_batch, p.batch / batch
    if largest(way(1)) > room:
        way, units = by_source, every / sources
    counts = range(1, math.ceil(units) + 1)
    return way(max(1, bisect_right(counts, room, key=lambda count: largest(way(count)))))


def jacobian_bytes(plan: Plan, memory: float | None) -> int:
    """What the Jacobians of one panel take, if any are kept."""
    kept = plan.keeps_jacobians(False) or plan.keeps_jacobians(True)
    return kept * max(panel.bytes(plan.problem) for panel in panels(plan, memory))


def _room(plan: Plan, memory: float | None) -> float:
    if memory == 0:
        return 0
    both = plan.changes_jacobians and plan.keeps_jacobians(False) and plan.keeps_jacobians(True)
    if memory is None:
        return float(psutil.virtual_memory().available / 2 / (1 + both))
    least = plan.memory()
    spare = max(0, memory - sum(least.values())) / 2
    return (spare + least.get("step Jacobians", 0)) / (1 + both)


def _cut(problem: Problem, shape: tuple[int, int], rows: bool) -> list[Panel]:
    """All products, cut into panels of so many sources and batch elements.

    With `rows` of the loss a panel takes all steps from its first source on.
    """
    sources, ends = problem.pairs.resolved(problem.steps)[1], problem.ends
    ends = np.full_like(ends, problem.steps) if rows else ends
    return [
        Panel(area, range(int(sources[area.sources][0]) + 1, int(ends[area.sources].max()) + 1))
        for area in cut(whole(problem), shape)
    ]
