"""When to keep which states, so that a long run can be walked back in little memory.

Walking back from the last segment to the first needs the states of every segment. What does not fit
into memory is taken again from a snapshot, the state at the start of a segment. The schedule is that of
Griewank & Walther (2000), Algorithm 799: revolve, generalised to segments that cost more memory than a
snapshot: with `room` snapshots' worth of memory and r passes over each segment at most,

    span(1, room) = 1 + room // cost,    span(r, room) = span(r, room - 1) + span(r - 1, room)

segments can be walked back; for a cost of 1 these are the binomial coefficients of the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from gradsim.types import Array


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
        return self._taken(self.count, 0) - self.count

    def _taken(self, count: int, used: int) -> int:
        total = 0
        stack = [(count, used)]
        while stack:
            left, used = stack.pop()
            ahead = self.ahead(left, used)
            total += ahead or left
            if ahead:
                stack += [(ahead, used), (left - ahead, used + 1)]
        return total
