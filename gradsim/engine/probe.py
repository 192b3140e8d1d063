"""Does a cell keep its contract? A few calls of `step` and `output` tell, and the first steps of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.plugin import calling
from gradsim.contracts.promises import ALONE, CHANGED, UNEQUAL, mend, refuse, result_mistakes
from gradsim.contracts.trajectory import Trajectory
from gradsim.errors import PluginError
from gradsim.numerics import autodiff
from gradsim.types import Array, Params, StepData

_REACH = np.array([[0.5], [-2.0]])
"""How far the two states lie from where the run starts: to opposite sides, and the second one further."""

_CLOSE = {8: 1e-6, 4: 1e-3}
"""What rounding may make of a batch element among others, by bytes of the dtype."""

_AT_ONCE = 2**16
"""Floats of the states that are taken again in one call."""


@dataclass(frozen=True)
class Place:
    """Arguments of `step`, with leading axes of any kind."""

    params: Params
    state: Array
    inputs: Array
    data: StepData

    def __getitem__(self, key: Any) -> Place:
        data = {n: np.asarray(x[key]) for n, x in self.data.items()}
        return Place(self.params, self.state[key], self.inputs[key], data)

    def call(self, method: Callable[..., Any], *more: Any) -> Any:
        """Call a method of a cell here."""
        return method(self.params, self.state, self.inputs, *more, **self.data)

    def copy(self, dtype: str = "float64") -> Place:
        """The same numbers in arrays of their own."""

        def cast(x: Array) -> Array:
            return np.array(x, dtype=dtype if x.dtype.kind == "f" else x.dtype)

        params, data = ({n: cast(x) for n, x in d.items()} for d in (self.params, self.data))
        return Place(params, cast(self.state), cast(self.inputs), data)

    def changed(self, other: Place) -> str | None:
        """The first argument that differs from that of another place, as the author of a step names it."""
        pairs = {"state": (self.state, other.state), "inputs": (self.inputs, other.inputs)}
        if self.params.keys() != other.params.keys():
            return "params"
        pairs |= {f"params[{n!r}]": (p, other.params[n]) for n, p in self.params.items()}
        pairs |= {n: (x, other.data[n]) for n, x in self.data.items()}
        unlike = (n for n, (a, b) in pairs.items() if a is not b and not _same(a, b))
        return next(unlike, None)


def probe(start: Trajectory) -> None:
    """See that a step changes nothing, gives the same again, and takes each batch element by itself.

    It looks at two states near that at the start, because at zero many a mistake does not show.

    Raises
    ------
    PluginError
        `step` or `output` breaks one of its rules.
    """
    cell = start.cell
    data = {n: _ends(x) for n, x in start.step_data.items()}
    here = Place(start.params, np.repeat(start.states[0, :1], 2, axis=0), _ends(start.inputs), data)
    near = Place(here.params, _near(here.state), here.inputs, data)
    with np.errstate(all="ignore"):
        try:
            new = _probed(cell, "step", near)
        except PluginError as error:
            # Perhaps this step is not made for any state but those of a run.
            if not isinstance(error.__cause__, Exception):
                raise
            new = _probed(cell, "step", here)
        if cell.own_output:
            _probed(cell, "output", Place(here.params, new, here.inputs, {}))


def retake(taken: Trajectory) -> None:
    """See that `step` makes of each state of a run the next one, taken again many steps at a time.

    It finds what a few calls do not: a counter, what is kept by the identity of an array, an `unroll` that
    goes astray on its way, units that meet others of the batch only where they are large.

    Raises
    ------
    PluginError
        The states are made of something else than the arguments of `step`.
    """
    length = max(1, _AT_ONCE // taken.states[0].size)
    for first in range(0, len(taken.steps), length):
        _retake(taken[taken.steps[first : first + length]])


def _retake(taken: Trajectory) -> None:
    cell, step = taken.cell, taken.cell.step
    here = Place(taken.params, taken.before, taken.inputs, taken.step_data)
    with np.errstate(all="ignore"), calling(cell, "step", known=taken.params):
        off = _off(here.call(step, np), taken.after, here)
        if (off <= 1).all():
            return
        t, b = (int(i) for i in np.argwhere(~(off <= 1))[0])
        where = f"step {taken.first + t}, batch {b}"
        # Twice, of arrays that lie elsewhere: one may be taken for another that was there before.
        single = here[t]
        for place in (single, single.copy(single.state.dtype.name)):
            if not _off(place.call(step, np), taken.after[t], single)[b] <= 1:
                _refuse_other_steps(cell, where)
                return
        # In float64 rounding explains nothing that is worth a word.
        wide = here.copy()
        found, apart = wide.call(step, np)[t], wide[t].call(step, np)
        if not _off(found, apart, wide[t])[b] <= 1:
            raise PluginError(
                f"{cell!r}: step() {ALONE.format(np.abs(found - apart)[b].max())} (seen at {where})"
            )


def _refuse_other_steps(cell: Cell, where: str) -> None:
    unroll = type(cell).unroll
    one_by_one = autodiff.provider() is autodiff.AUTOGRAD
    if not (cell.exact or one_by_one):
        return  # rounding, which is another one there, may decide whether a unit fires
    if unroll.__module__.startswith("gradsim.contracts."):
        raise PluginError(f"{cell!r}: step() {UNEQUAL} (seen at {where})")
    if cell.exact:
        raise PluginError(
            f"{cell!r}: the states of unroll() are not those of single steps, first at {where}; "
            f"{mend(cell, 'unroll')}"
        )


def _off(one: Array, other: Array, place: Place) -> Array:
    """How far two results for places (..., batch) lie apart, in units of what rounding explains."""
    size = np.ones(place.state.shape[:-1])
    for x in (place.state, place.inputs, other):
        size = np.maximum(size, np.abs(x).max(axis=-1, initial=0.0))
    apart = np.abs(np.asarray(one) - other).max(axis=-1)
    return np.asarray(apart / (_CLOSE[place.state.itemsize] * size))


def _near(start: Array) -> Array:
    moved = start + _REACH * np.cos(np.arange(1.0, start.size + 1) ** 2).reshape(start.shape)
    return np.asarray(moved, dtype=start.dtype)


def _ends(along: Array) -> Array:
    """What goes with the first step of the first batch element, and with the last step of the last."""
    return np.stack((along[0, 0], along[-1, -1]))


def _probed(cell: Cell, method: str, place: Place) -> Array:
    """What a method gives here, if it keeps its rules."""
    call, before = getattr(cell, method), dict(place.params)
    for array in (place.state, place.inputs, *place.data.values()):
        array.flags.writeable = False
    alone = place[:1, None]
    with calling(cell, method, known=place.params):
        try:
            found = place.call(call, np)
            refuse(cell, result_mistakes(cell, method, found, place.state))
            again, apart = place.call(call, np), alone.call(call, np)
        except ValueError as error:
            if "read-only" in str(error) and (name := _changes(call, place)):
                raise PluginError(f"{cell!r}: {method}() {CHANGED.format(name)}") from None
            raise
    refuse(cell, result_mistakes(cell, method, apart, alone.state))
    if name := place.changed(Place(before, place.state, place.inputs, place.data)):
        raise PluginError(f"{cell!r}: {method}() {CHANGED.format(name)}")
    if not _same(found, again):
        raise PluginError(f"{cell!r}: {method}() {UNEQUAL}")
    if _differ(found[0], apart[0, 0], place):
        # In float64 rounding explains nothing that is worth a word.
        wide = place.copy()
        found, apart = wide.call(call, np), wide[:1, None].call(call, np)
        if _differ(found[0], apart[0, 0], wide):
            raise PluginError(f"{cell!r}: {method}() {ALONE.format(np.abs(found[0] - apart[0, 0]).max())}")
    return np.asarray(found)


def _changes(call: Callable[..., Any], place: Place) -> str | None:
    """The argument that a method changes, where it may."""
    free = place.copy(place.state.dtype.name)
    free.call(call, np)
    return place.changed(free)


def _same(one: Array, other: Array) -> bool:
    # NaN is looked for only where there may be some: that takes three times as long.
    return np.array_equal(one, other) or np.array_equal(one, other, equal_nan=True)


def _differ(one: Array, other: Array, place: Place) -> bool:
    if _same(one, other):
        return False
    size = max(np.abs(x).max(initial=1.0) for x in (one, place.state, place.inputs))
    return bool((np.abs(one - other) > _CLOSE[place.state.itemsize] * size).any())
