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
from gradsim.contracts.trajectory import Trajectory
from gradsim.engine.carried import Carried
from gradsim.engine.derivatives import singular
from gradsim.errors import NonFiniteError
from gradsim.numerics.blocks import through_blocks
from gradsim.numerics.scaled import KEEP, ROOM, Scaled, add, ratio
from gradsim.types import Array

Change = Callable[[Trajectory, int, Array], Array]
"""What mitigations do to the adjoint (batch, m) at one time, which lies on the trajectory."""

_SHORT = 8
"""Steps that are not worth trying in one go again once that has failed."""


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
        steps, whole = trajectory.steps, reach is None or not reach.any()
        if self._acts:
            yield self._step_by_step(trajectory, direct, reach)
        elif not whole or self._windows.keys() - {0}:
            everywhere = np.zeros(len(steps), dtype=np.int64)
            yield from self._by_reach(trajectory, direct, everywhere if reach is None else reach)
        elif (carried := self._in_one_go(trajectory, direct)) is not None:
            yield carried
        elif self._acts or len(steps) <= _SHORT:
            yield self._step_by_step(trajectory, direct, None)
        else:
            # It left the range somewhere. Halves find out where, and most steps still go in one go.
            half = len(steps) // 2
            for rows in (slice(half, len(steps)), slice(0, half)):
                yield from self.through(trajectory[steps[rows]], after(direct, rows))

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
            alone = window <= here[0] and {r for r in self._windows if r <= here[-1]} <= {window}
            carried = self._in_one_go(part, there, window) if alone and not self._acts else None
            yield carried or self._step_by_step(part, there, reach[rows])

    def start(self, trajectory: Trajectory, direct: Array) -> tuple[Scaled, Array]:
        """The adjoint (batch, m) of the state at time 0, where the trajectory begins, and its factor."""
        return self._arrive(trajectory, 0, direct, 0)

    def _in_one_go(self, trajectory: Trajectory, direct: Array, window: int = 0) -> Carried | None:
        """The fast way of one window, for what moves little enough and is left alone; None if it is not."""
        last = _plus(self._windows.get(window), direct[-1])
        changes, times = self._changes, trajectory.steps
        if changes is not None and not changes.leaves_alone(trajectory, times[-1], last):
            return None
        # One exponent for all: that of the largest that comes in, here or later on the way.
        alive = np.asarray(last.mantissa.any(axis=-1, keepdims=True))
        sizes = [int(last.exponent[alive].max())] if alive.any() else []
        sizes += [int(np.frexp(_largest(direct[1:-1], None))[1])] if direct[1:-1].any() else []
        exponent = max(sizes, default=0)
        if abs(exponent) <= KEEP[direct.itemsize]:
            exponent = 0  # as nearly always: then nothing is scaled, and no array is copied
        with np.errstate(all="ignore"), calling(trajectory.cell, "state_vjp", trajectory.params):
            incoming = last.over(exponent)
            pulled = trajectory.pull(incoming, np.ldexp(direct[:-1], -exponent) if exponent else direct[:-1])
        if not self._in_range(pulled.adjoints, direct, alive):
            return None
        exponents = np.full((len(times), len(incoming), 1), exponent, dtype=np.int32)
        adjoint = Scaled(pulled.adjoints[1:], exponents)
        if changes is not None:
            for row in range(len(times) - 2, -1, -1):
                if not changes.leaves_alone(trajectory, times[row], adjoint[row]):
                    return None
        self._windows = {window: Scaled(pulled.adjoints[0], exponents[0]).settled()}
        return Carried(trajectory, adjoint, np.ones(exponents.shape[:2]), pulled, exponent)

    @staticmethod
    def _in_range(adjoints: Array, direct: Array, alive: Array) -> bool:
        """Whether no adjoint has left the range, and no loss that came in has vanished from sight.

        `alive` (batch, 1): where something came in at the end, be it too small to be among `adjoints`.
        """
        most = ROOM[direct.itemsize]
        # Squares underflow first, so that this errs on the safe side.
        squares = np.einsum("tbm,tbm->tb", adjoints, adjoints)
        if 2.0**-most < squares.min() and squares.max() < 2.0**most:  # at a glance
            return True
        sizes = _largest(adjoints, -1)
        if not sizes.max() < 2.0**most:
            return False
        seen = sizes >= 2.0**-most
        if seen.all():
            return True
        # Zero is right before any loss has come in, and a lost adjoint only where one should be.
        entered = np.concatenate((direct[:-1].any(axis=-1), alive.T))
        present = np.asarray(np.logical_or.accumulate(entered[::-1]))[::-1]
        return bool(seen[present].all())

    def _step_by_step(self, trajectory: Trajectory, direct: Array, reach: Array | None) -> Carried:
        steps = trajectory.steps
        reach = np.zeros(len(steps)) if reach is None else reach
        adjoint = np.empty_like(direct[1:])
        exponent = np.empty((*adjoint.shape[:2], 1), dtype=np.int32)
        factor = np.empty(adjoint.shape[:2])
        with np.errstate(all="ignore"), calling(trajectory.cell, "state_vjp", trajectory.params):
            for i in range(len(steps) - 1, -1, -1):
                total, factor[i] = self._arrive(trajectory, steps[i], direct[i + 1], int(reach[i]))
                adjoint[i], exponent[i] = total.mantissa, total.exponent
                self._windows = {r: _pulled(trajectory, i, w) for r, w in self._windows.items()}
        return Carried(trajectory, Scaled(adjoint, exponent), factor)

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
    return here if not rows.start else np.concatenate((np.zeros_like(here[:1]), here[1:]))


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
    fresh = Scaled(direct, np.zeros((len(direct), 1), dtype=np.int32)).settled()
    if window is None:
        return fresh
    return add(window, fresh).settled() if direct.any() else window


def _largest(x: Array, axis: int | None) -> Array:
    """Largest size, without an array of sizes in between."""
    return np.asarray(np.maximum(x.max(axis=axis), -x.min(axis=axis)))


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
            made = self._made(trajectory, time, given := _plain(time, adjoint))
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
            made = self._made(trajectory, time, given := _plain(time, window))
            same = np.array_equal(made, given)
            found[reach] = window if same else Scaled(made, np.zeros_like(window.exponent)).settled()
        return found

    def _made(self, trajectory: Trajectory, time: int, adjoint: Array) -> Array:
        if self._first is not None and time == self._first[0]:
            return self._first[1]
        return self.change(trajectory, time, adjoint)


def _plain(time: int, adjoint: Scaled) -> Array:
    """The plain numbers, which mitigations see."""
    value = adjoint.value
    if not np.isfinite(value).all():
        raise NonFiniteError(
            f"the adjoint left the range of {value.dtype} at time {time}, before the mitigations of the "
            "adjoint; clip harder, truncate, or use dtype='float64'"
        )
    return value
