"""Cells of one size, for a fair comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from itertools import pairwise
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.contracts.validation import checking
from gradsim.errors import InputError
from gradsim.types import PositiveInt

_LARGEST = 2**20
"""Units; no budget should ask for more."""

_APART = 64
"""Sizes that are tried, at least, until one is found that a cell comes in, such as a multiple of its heads.

As many as it has units will do: it has no more heads than units.
"""


@checking
def matched(
    cells: Mapping[str, Cell], *, params: PositiveInt | None = None, state: PositiveInt | None = None
) -> dict[str, Cell]:
    """The same cells, each with as many units as a common budget allows.

    What changes is the `hidden_size`, and nothing else. Of a cell that holds others, such as a stack or a
    wrapper, those inside change together: the largest has n units and each other one as many as its share
    of that was, rounded, and at least one. Where one takes what the one before it gives, it still does.

    Parameters
    ----------
    cells
        By label.
    params
        The budget in numbers that a training changes, a readout not counted. Of a cell that none changes, all
        numbers count that its step makes use of.
    state
        The budget in components of the state. One of the two is given.

    Returns
    -------
    dict of label -> Cell
        As large as each can be within the budget: none is larger than it.

    Raises
    ------
    InputError
        Neither or both budgets are given, a cell has no `hidden_size` that counts, or the smallest of its
        sizes is too large.
    """
    if (params is None) == (state is None):
        raise InputError("matched() needs one budget: params or state")
    if params is not None:
        return {label: _sized(label, cell, "params", params) for label, cell in cells.items()}
    return {label: _sized(label, cell, "state", state) for label, cell in cells.items()}


def parameter_count(cell: Cell) -> int:
    """The numbers that a training changes; of a cell that none changes, such as a reservoir, all in use."""
    sizes = {n: int(np.size(p)) for n, p in cell.init_params(np.random.default_rng(0)).items()}
    used = {n: size - int(np.sum(cell.unused.get(n, 0))) for n, size in sizes.items()}
    return sum(size for n, size in used.items() if n not in cell.fixed) or sum(used.values())


COUNTS: dict[str, Callable[[Cell], int]] = {
    "params": parameter_count,
    "state": lambda cell: cell.state_size,
}
"""What cells can be matched in, and how much of it a cell has."""

_TOLD = {"params": "the number of parameters", "state": "the size of the state"}


def units(cell: Cell) -> tuple[int, ...]:
    """The `hidden_size` of a cell and of all that are inside it."""
    own = (cell.hidden_size,) if _has(cell, "hidden_size") else ()  # type: ignore[attr-defined]
    return own + tuple(n for _, inside in _inside(cell) for c in inside for n in units(c))


def _has(cell: Cell, parameter: str) -> bool:
    return parameter in {f.name for f in dataclasses.fields(cell)}  # type: ignore[arg-type]


def _inside(cell: Cell) -> Iterator[tuple[str, tuple[Cell, ...]]]:
    """The fields that hold cells, and which."""
    for f in dataclasses.fields(cell):  # type: ignore[arg-type]
        value = getattr(cell, f.name)
        held = value if isinstance(value, tuple) else (value,)
        if held and all(isinstance(c, Cell) for c in held):
            yield f.name, held


def _sized(label: str, cell: Cell, what: str, budget: Any) -> Cell:
    own, count = units(cell), COUNTS[what]
    if not own:
        raise InputError(
            f"{label}: {cell!r} has no hidden_size, so that it cannot be made to match; leave it out"
        )
    apart = max(_APART, *own)

    def made(largest: int) -> Cell | None:
        """The cell of this size; None where it does not come in it, as with heads that have to be equal."""
        shares = ((2 * largest * n + max(own)) // (2 * max(own)) for n in own)
        try:
            return _resized(cell, (max(1, n) for n in shares))
        except InputError:
            return None

    def next_made(largest: int) -> Cell | None:
        return next(filter(None, map(made, range(largest, largest + apart))), None)

    def fits(largest: int) -> bool:
        """Whether it is within the budget; of a size that it does not come in, the next larger one."""
        found = next_made(largest)
        return found is not None and count(found) <= budget

    if len({count(c) for c in map(next_made, (1, 2 * max(own))) if c}) == 1:
        raise InputError(
            f"{label}: {_TOLD[what]} of {cell!r} does not depend on its hidden_size; match otherwise, "
            "or leave it out"
        )
    low, high = 0, 1
    while fits(high):
        if high > _LARGEST:
            raise InputError(
                f"{label}: {cell!r} of {high} units is within the budget {what}={budget}; give a smaller one"
            )
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    best = next_made(low) if low else None
    if best is None:
        raise InputError(
            f"{label}: the smallest {cell!r} is beyond the budget {what}={budget}; give a larger one"
        )
    return best


def _resized(cell: Cell, sizes: Iterator[int], input_size: int | None = None) -> Cell:
    """The cell with other sizes, in the order of `units`; and of the inputs, where one is given."""
    given: dict[str, Any] = {"hidden_size": next(sizes)} if _has(cell, "hidden_size") else {}
    if input_size is not None and _has(cell, "input_size"):
        given["input_size"] = input_size
    for name, held in _inside(cell):
        chained = [False, *(above.input_size == below.output_size for below, above in pairwise(held))]
        made: list[Cell] = []
        for old, follows in zip(held, chained, strict=True):
            fed = made[-1].output_size if follows else None if made else input_size
            made.append(_resized(old, sizes, fed))
        given[name] = tuple(made) if isinstance(getattr(cell, name), tuple) else made[0]
    return dataclasses.replace(cell, **given)  # type: ignore[type-var]
