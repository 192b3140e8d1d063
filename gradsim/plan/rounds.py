"""Rounds: which step Jacobians are kept at one time for products, and which products are made of them.

All at once where memory allows. Else the run is taken again for every round.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass

import numpy as np

from gradsim.contracts.pieces import GradientByLag, LossRows
from gradsim.contracts.problem import Problem
from gradsim.engine.layout import Tile, cut, job_shape, whole
from gradsim.plan.needs import Needs


@dataclass(frozen=True)
class Round:
    """The sources and batch elements whose products are made, and the steps whose Jacobians they take."""

    tile: Tile
    steps: range

    def bytes(self, problem: Problem) -> int:
        """What these Jacobians take."""
        one = problem.cell.state_size * problem.block * problem.dtype.itemsize
        return int(len(self.steps) * (self.tile.batch.stop - self.tile.batch.start) * one)


def rounds(needs: Needs, room: float) -> list[Round]:
    """The rounds of a run, one after the other, each with `room` for its Jacobians.

    Cut by batch elements first, which costs only that the run is taken again for each round; then by
    sources. If nothing fits, each has what one job multiplies.
    """
    p = needs.problem
    if needs.penalty_needs_jacobians or needs.asks(GradientByLag) or not needs.kept_jacobians:
        return [Round(whole(p), range(1, p.steps + 1))]
    every = p.sizes()["source"]
    sources, batch = job_shape(p)
    rows = needs.asks(LossRows)
    if needs.halved or rows:
        # Halving joins all sources, and a loss is pulled back past all of them.
        sources, batch = every, math.lcm(batch, needs.halved or 1)

    if every <= sources and p.batch <= batch:  # whatever room there is
        return _cut(p, (every, p.batch), rows)

    def by_batch(count: int) -> list[Round]:
        return _cut(p, (every, count * batch), rows)

    def by_source(count: int) -> list[Round]:
        return _cut(p, (count * sources, batch), rows)

    way, units = by_batch, p.batch / batch
    if largest(p, way(1)) > room:
        way, units = by_source, every / sources
    counts = range(1, math.ceil(units) + 1)
    return way(max(1, bisect_right(counts, room, key=lambda count: largest(p, way(count)))))


def largest(problem: Problem, found: list[Round]) -> int:
    """The bytes of the Jacobians of the largest round."""
    return max(one.bytes(problem) for one in found)


def jacobian_bytes(needs: Needs, room: float) -> int:
    """What the Jacobians of one round take, if any are kept."""
    return largest(needs.problem, rounds(needs, room)) if needs.kept_jacobians else 0


def _cut(problem: Problem, shape: tuple[int, int], rows: bool) -> list[Round]:
    """All products, cut into rounds of so many sources and batch elements.

    With `rows` of the loss a round takes all steps from its first source on.
    """
    sources, ends = problem.resolved[1], problem.ends
    ends = np.full_like(ends, problem.steps) if rows else ends
    return [
        Round(tile, range(int(sources[tile.sources][0]) + 1, int(ends[tile.sources].max()) + 1))
        for tile in cut(whole(problem), shape)
    ]
