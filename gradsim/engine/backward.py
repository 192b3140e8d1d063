"""The backward pass: adjoints at every time, contributions at every step, the gradient.

Adjoints are kept as mantissa and exponent, so an exploding or vanishing run stays exact:
a_{t-1} = a_t J_t + q_{t-1}, with q_t = dL_t/ds_t the direct derivative of the loss at time t.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from gradsim.contracts.plugin import calling
from gradsim.contracts.trajectory import Trajectory, shortened
from gradsim.engine.carried import Carried, Go
from gradsim.engine.derivatives import singular
from gradsim.engine.pulled import adjoints_of
from gradsim.errors import NonFiniteError
from gradsim.numerics.blocks import through_blocks
from gradsim.numerics.scaled import KEEP, LOWEST, ROOM, Scaled, add, largest, range_end, ratio
from gradsim.types import Array

Change = Callable[[Trajectory, int, Array], Array]
"""What mitigations do to the adjoint (batch, m) at one time, which lies on the trajectory."""

_SHORT = 8
"""Steps on average for which windows had better be carried side by side than each in one go."""


@dataclass(frozen=True, eq=False)
class ThroughJacobians(Trajectory):
    """Steps whose adjoints are carried by given blocks (steps, batch, g, k, k)."""

    by_step = ("blocks",)

    blocks: Array

    @classmethod
    def of(cls, trajectory: Trajectory, blocks: Array) -> ThroughJacobians:
        """The same steps, with these blocks on the way back."""
        t = trajectory
        return cls(t.cell, t.params, t.states, t.inputs, t.step_data, blocks, first=t.first)

    def pull_one(self, row: int, adjoint: Array) -> Array:
        """`adjoint` (batch, m) of `states[row + 1]` times the step Jacobian."""
        return through_blocks(adjoint, self.blocks[row])


class Backward:
    """The adjoints on their way from the last time back.

    Losses that reach differently far travel in windows of their own. `change` is applied to the
    adjoint of each window at each time. As long as it leaves them alone they are carried as without it,
    to the last bit; from there on step by step.
    """

    def __init__(self, batch: int, size: int, dtype: np.dtype, change: Change | None = None) -> None:
        self._changes = None if change is None else _Changes(change)
        self._none = Scaled(np.zeros((batch, size), dtype=dtype), np.zeros((batch, 1), dtype=np.int32))
        self._windows: dict[int, Scaled] = {}

    def through(self, trajectory: Trajectory, direct: Array, reach: Array | None = None) -> Iterator[Carried]:
        """Carry the adjoints back through some steps, in as few goes as their range allows.

        Parameters
        ----------
        direct
            q, shape (step + 1, batch, m), at the times of `trajectory.states`. The first row is zero: that
            time belongs to the steps before.
        reach
            Shape (step,): the earliest state that the loss at each step reaches; None is all the way.
        """
        reach = np.zeros(len(trajectory.steps), dtype=np.int64) if reach is None else reach
        if self._acts:
            yield self._step_by_step(trajectory, direct, reach)
        elif reach.any() or self._windows.keys() - {0}:
            yield from self._by_reach(trajectory, direct, reach)
        else:
            yield from self._of_one_window(trajectory, direct, reach)

    @property
    def _acts(self) -> bool:
        """Whether mitigations have changed an adjoint, and so what comes before it."""
        return self._changes is not None and self._changes.acts

    def _by_reach(self, trajectory: Trajectory, direct: Array, reach: Array) -> Iterator[Carried]:
        """Cut where the reach changes or ends; in one go where only one window is on its way."""
        steps = trajectory.steps
        changes = np.concatenate(([True], np.diff(reach) != 0))
        cuts = np.flatnonzero(changes | np.isin(np.array(steps), reach)).tolist()
        if len(cuts) * _SHORT > len(steps):
            # As with TBPTT(1, k2), where every loss has a window of its own.
            yield self._step_by_step(trajectory, direct, reach)
            return
        for first, last in reversed(list(pairwise([*cuts, len(steps)]))):
            rows = slice(first, last)
            here, window = steps[rows], int(reach[first])
            part, there = trajectory[here], after(direct, rows)
            if window <= here[0] and {r for r in self._windows if r <= here[-1]} <= {window}:
                yield from self._of_one_window(part, there, reach[rows])
            else:
                yield self._step_by_step(part, there, reach[rows])

    def start(self, trajectory: Trajectory, direct: Array) -> tuple[Scaled, Array]:
        """The adjoint (batch, m) of the state at time 0, where the trajectory begins, and its factor."""
        return self._arrive(trajectory, 0, direct, 0)

    def _of_one_window(self, trajectory: Trajectory, direct: Array, reach: Array) -> Iterator[Carried]:
        """In goes as long as the range allows, and step by step from where mitigations act."""
        steps, ahead, goes = trajectory.steps, len(trajectory.steps), list[Go]()
        counted = False  # whether what comes in at the last time is in the window already
        while stop := len(steps):
            rows = slice(max(stop - ahead, 0), stop)
            here = trajectory[steps[rows]] if goes else trajectory
            go = self._go(here, after(direct, rows), int(reach[-1]), counted)
            if go is None:
                break
            goes.append(go)
            done = len(go.trajectory.steps)
            # Where a cell does not stop by itself, less is tried in vain.
            ahead, steps = 2 * done, steps[:-done]
            direct, counted = direct[: len(steps) + 1], len(steps) > rows.start
        if counted:
            direct = np.concatenate((direct[:-1], np.zeros_like(direct[:1])))
        if goes:
            yield Carried.of(trajectory[trajectory.steps[len(steps) :]], goes)
        if steps:
            yield self._step_by_step(trajectory[steps], direct, reach[: len(steps)])

    def _go(self, trajectory: Trajectory, direct: Array, window: int, counted: bool) -> Go | None:
        """As many steps back as the range allows, the last ones first; None if mitigations act."""
        changes = self._changes
        last = self._windows[window] if counted else _plus(self._windows.get(window), direct[-1])
        if changes is not None and not changes.leaves_alone(trajectory, trajectory.steps[-1], last):
            return None
        exponent, first = _exponents(last, direct)
        steps, given = trajectory.steps[first:], after(direct, slice(first, len(direct)))[:-1]
        if exponent.any() and given.any():
            given = Scaled(given, np.zeros_like(exponent)).over(exponent)
        here = trajectory[steps] if first else trajectory
        with np.errstate(all="ignore"), calling(trajectory.cell, "state_vjp", trajectory.params):
            pulled = here.pull(last.over(exponent), given)
            adjoints = adjoints_of(here, pulled)
            end = range_end(adjoints)
            if end:  # it did not stop in time
                adjoints = adjoints[end:]
            if len(adjoints) <= len(steps):
                here = here[steps[1 - len(adjoints) :]]
            adjoint = Scaled(adjoints, np.broadcast_to(exponent, (len(adjoints), *exponent.shape)))
            row = len(direct) - len(adjoints)
            if end is None:
                before = adjoint[0].settled()
            else:  # of that step alone, so that nothing is made for the others
                before = _pulled(here[here.steps[:1]], 0, adjoint[1].settled())
        if changes is not None:
            for i in range(len(adjoints) - 2, 0, -1):
                if not changes.leaves_alone(here, here.steps[i - 1], adjoint[i]):
                    return None
        # What comes in at that time is there, unless it was kept for the next go.
        missing = end is not None or row == first
        self._windows = {window: _plus(before, direct[row]) if missing else before}
        # Contributions are sums over the batch.
        together = shortened(pulled, here) if (exponent == exponent[0]).all() else None
        return Go(here, adjoint, together, int(exponent[0, 0]))

    def _step_by_step(self, trajectory: Trajectory, direct: Array, reach: Array) -> Carried:
        steps = trajectory.steps
        adjoints = Scaled(np.empty_like(direct), np.empty((*direct.shape[:2], 1), dtype=np.int32))
        factor = np.empty((len(steps), direct.shape[1]))
        with np.errstate(all="ignore"), calling(trajectory.cell, "state_vjp", trajectory.params):
            for i in range(len(steps) - 1, -1, -1):
                adjoints[i + 1], factor[i] = self._arrive(trajectory, steps[i], direct[i + 1], int(reach[i]))
                self._windows = {r: _pulled(trajectory, i, w) for r, w in self._windows.items()}
            adjoints[0] = self._sum(self._windows.values())
        return Carried(trajectory, adjoints, factor, [Go(trajectory, adjoints)])

    def _arrive(self, trajectory: Trajectory, time: int, direct: Array, reach: int) -> tuple[Scaled, Array]:
        """Add the loss of this time, let the mitigations act; the adjoint, and their factor (batch,)."""
        # A window ends at the earliest state that its losses reach.
        windows = {r: w for r, w in self._windows.items() if r <= time}
        if reach <= time and direct.any():
            windows[reach] = _plus(windows.get(reach), direct)
        factor = np.ones(len(direct))
        if self._changes is not None:
            before = self._sum(windows.values())
            # A mitigation may make something of nothing.
            made = self._changes.made(trajectory, time, windows or {reach: self._none})
            windows = {r: w for r, w in made.items() if w is not self._none}
            factor = ratio(self._sum(windows.values()), before)
        self._windows = windows
        return self._sum(windows.values()), factor

    def _sum(self, parts: Iterable[Scaled]) -> Scaled:
        total = self._none
        for i, part in enumerate(parts):
            total = part if i == 0 else add(total, part).settled()
        return total


def after(direct: Array, rows: slice) -> Array:
    """Of q at the times of some states, that of the states of some of the steps; see `Backward.through`."""
    here = direct[rows.start : rows.stop + 1]
    # The state before the first of these steps is the last of the steps before, and counted there.
    nothing = not rows.start or not here[0].any()
    return here if nothing else np.concatenate((np.zeros_like(here[:1]), here[1:]))


def _pulled(trajectory: Trajectory, row: int, window: Scaled) -> Scaled:
    """An adjoint (batch, m) of the state after a step, at the state before it.

    Raises
    ------
    NonFiniteError
        The derivative of the step is NaN or infinite there.
    """
    pulled = trajectory.pull_one(row, window.mantissa)
    if not np.isfinite(pulled).all():
        window = window.settled(keep=0)  # perhaps it is only too large
        pulled = trajectory.pull_one(row, window.mantissa)
        if not (finite := np.isfinite(pulled).all(axis=-1)).all():
            cell, where = trajectory.cell, f"step {trajectory.steps[row]}, batch {int(np.argmin(finite))}"
            raise NonFiniteError(
                f"{cell!r}: the derivative of the step with respect to the state is NaN or infinite at "
                f"{where}{singular(cell, 'state_vjp')}"
            )
    return Scaled(pulled, window.exponent).settled()


def _plus(window: Scaled | None, direct: Array) -> Scaled:
    if window is not None and not direct.any():
        return window
    fresh = Scaled(direct, np.zeros((len(direct), 1), dtype=np.int32)).settled()
    return fresh if window is None else add(window, fresh).settled()


def _exponents(last: Scaled, direct: Array) -> tuple[Array, int]:
    """Exponents (batch, 1) that adjoints are carried back with, and how many steps they are not for.

    The same for all of the batch, whose contributions are summed, as long as they are not too far apart.
    """
    size, none = direct.itemsize, np.zeros_like(last.exponent)
    most, keep = ROOM[size], KEEP[size]
    within = direct[1:-1]
    if not last.exponent.any() and max(within.max(initial=0.0), -within.min(initial=0.0)) < 2.0**keep:
        return none, 0  # as nearly always: then nothing is scaled, and no array is copied
    entering, tops = _tops(last), np.empty((0, len(none)), dtype=np.int32)
    if direct[:-1].any():
        tops = _tops(Scaled(direct[:-1], np.zeros((len(direct) - 1, *none.shape), dtype=np.int32)))
        # That of what comes in first, from the end.
        later = tops[::-1][np.argmax(tops[::-1] > LOWEST, axis=0), np.arange(len(none))]
        entering = np.where(entering > LOWEST, entering, later)
    there = entering > LOWEST
    if not there.any():
        return none, 0
    top, least = entering.max(), entering[there].min()
    exponent = np.where(there, entering, 0) if top - least > most // 2 else np.full_like(entering, top)
    # Where it vanishes, there is more room ahead.
    exponent = np.where(exponent < 0, exponent - 3 * most // 4, exponent)
    # What comes in later may be too large beside that.
    large = np.flatnonzero((tops - exponent > most - keep).any(axis=-1))
    return exponent[:, None].astype(np.int32), int(large[-1]) if len(large) else 0


def _tops(vectors: Scaled) -> Array:
    """Powers of two just above vectors; LOWEST where they are zero."""
    sizes = largest(vectors.mantissa)
    return np.where(sizes > 0, np.frexp(sizes)[1] + vectors.exponent[..., 0], LOWEST)


class _Changes:
    """What mitigations make of the adjoint. They are asked once at each time, from the last one back."""

    def __init__(self, change: Change) -> None:
        self.change = change
        self._left_alone = math.inf
        """The earliest time at which they have changed nothing."""
        self._first: tuple[int, Array] | None = None
        """The latest one at which they did, and what they made."""

    @property
    def acts(self) -> bool:
        """Whether they have changed something."""
        return self._first is not None

    def leaves_alone(self, trajectory: Trajectory, time: int, adjoint: Scaled) -> bool:
        """Whether they change nothing at this time, where there is but one window."""
        if time < self._left_alone:
            made = self._made(trajectory, time, given := plain(f"the adjoint at time {time}", adjoint))
            if not np.array_equal(made, given):
                self._first = time, made
                return False
            self._left_alone = time
        return True

    def made(self, trajectory: Trajectory, time: int, windows: dict[int, Scaled]) -> dict[int, Scaled]:
        """What they make of each window at this time: the same object where they change nothing."""
        if time >= self._left_alone:
            return windows
        found = {}
        for reach, window in windows.items():
            made = self._made(trajectory, time, given := plain(f"the adjoint at time {time}", window))
            same = np.array_equal(made, given)
            found[reach] = window if same else Scaled(made, np.zeros_like(window.exponent)).settled()
        return found

    def _made(self, trajectory: Trajectory, time: int, adjoint: Array) -> Array:
        if self._first is not None and time == self._first[0]:
            return self._first[1]
        return self.change(trajectory, time, adjoint)


def plain(what: str, part: Scaled) -> Array:
    """The plain numbers, in which mitigations compute."""
    value = part.value
    if not np.isfinite(value).all():
        raise NonFiniteError(
            f"{what} leaves the range of {value.dtype}, before the mitigations that change it; clip the "
            "adjoint harder, truncate, or use smaller weights or dtype='float64'"
        )
    return value
