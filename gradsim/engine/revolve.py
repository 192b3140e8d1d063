"""When to keep which states, so that a long run can be walked back in little memory.

Walking back from the last segment to the first needs the states of every segment. What does not fit
into memory is taken again from a snapshot, the state at the start of a segment. The schedule is that of
Griewank & Walther (2000), Algorithm 799: revolve, generalised to segments that cost more memory than a
snapshot: with `room` snapshots' worth of memory and r passes over each segment at most,

    span(1, room) = 1 + room // cost,    span(r, room) = span(r, room - 1) + span(r - 1, room)

segments can be walked back. Where only snapshots are kept, these are the binomial coefficients of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from gradsim.types import Array

Snapshots = int | Literal["sqrt"]
"""How many to keep, or the fewest with which no step is taken more than twice."""


@dataclass(frozen=True)
class Schedule:
    """How to walk back over `count` segments.

    `cost` is the memory of a segment that is kept whole and `room` that of all that may be kept, both
    in units of a snapshot, besides the state before the first segment and the segment at work.
    """

    count: int
    cost: int
    room: int

    @cached_property
    def _spans(self) -> list[Array]:
        """[r - 1][1 + room]: how many segments can be walked back in r passes; up to `count`."""
        rooms = np.arange(self._room + 1)
        # Without any room, not even for the state before the first, one segment can be walked back.
        spans = [np.concatenate(([1], 1 + rooms // self.cost))]
        while spans[-1][-1] < self.count:
            spans.append(np.minimum(np.cumsum(spans[-1]), self.count))
        return spans

    @property
    def _room(self) -> int:
        return min(self.room, self.count * self.cost)  # more than all segments is never kept

    def ahead(self, count: int, used: int) -> int:
        """How many of `count` segments to pass before the next snapshot, 0 to keep them all whole.

        `used` is the number of snapshots that are already kept.
        """
        room = self._room - used
        if count == 1 or (count - 1) * self.cost <= room:
            return 0
        # The fewest passes with which this room is enough.
        passes = next(r for r, span in enumerate(self._spans) if span[1 + room] >= count)
        # As far as one pass less can walk back, but leave what it can do with one snapshot less.
        less = self._spans[passes - 1]
        return min(int(less[1 + room]), count - int(less[room]))

    def recomputed(self) -> int:
        """How many segments are taken again, in all."""
        return self._walked[0] - self.count

    def snapshots(self) -> int:
        """How many are kept at one time at most, that before the first segment among them, that before the
        segment at work not; 0 where all steps are kept.
        """
        return self._walked[1]

    @cached_property
    def _walked(self) -> tuple[int, int]:
        """The segments that are taken, and the most snapshots."""
        total = most = 0
        stack = [(self.count, 0)]
        while stack:
            left, used = stack.pop()
            ahead = self.ahead(left, used)
            total += ahead or left
            if ahead:
                stack += [(ahead, used), (left - ahead, used + 1)]
            if ahead or (used and left > 1):
                most = max(most, used + 1)
        return total, most


def chosen(snapshots: Snapshots, count: int, cost: int) -> Schedule:
    """The schedule of a number of snapshots, beside which no segment is kept whole; 0: all segments are.

    "sqrt": what is least for two passes over each segment, sqrt(2 T) states. Chen et al. (2016), whose
    snapshots lie at even distances, need 2 sqrt(T).
    """
    if snapshots == 0:
        return Schedule(count, cost, count * cost)
    if snapshots == "sqrt":
        spans = 1 + np.cumsum(1 + np.arange(count) // cost)  # span(2, room)
        return Schedule(count, cost, int(np.searchsorted(spans, count)))
    # No segment fits in beside the snapshots.
    most = min(snapshots, count)
    return Schedule(count, most, most - 1)
