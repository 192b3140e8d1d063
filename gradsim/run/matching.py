"""Cells of one size, for a fair comparison."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradsim.contracts.cell import Cell
from gradsim.errors import InputError

_LARGEST = 2**20
"""Units; no budget should ask for more."""

_APART = 64
"""Sizes that are tried, at least, until one is found that a cell comes in, such as a multiple of its heads.

As many as it has units will do: it has no more heads than units.
"""


def matched(
    cells: Mapping[str, Cell], *, params: int | None = None, state: int | None = None
) -> dict[str, Cell]:
    """The same cells, each with as many units as a common budget allows.

    Parameters
    ----------
    cells
        By label. Each has a `hidden_size`, which is what changes.
    params
        The budget in numbers that a training changes, a readout not counted. Of a cell that none changes, all
        numbers count.
    state
        The budget in components of the state. One of the two is given.

    Returns
    -------
    dict of label -> Cell
        As large as each can be within the budget: none is larger than it.

    Raises
    ------
    InputError
        Neither or both budgets are given, a cell has no `hidden_size`, or one unit of it is too large.
    """
    if (params is None) == (state is None):
        raise InputError("matched() needs one budget: params or state")
    count = parameter_count if params is not None else _state_size
    budget: Any = params if params is not None else state
    return {label: _sized(cell, count, budget) for label, cell in cells.items()}


def parameter_count(cell: Cell) -> int:
    """The numbers that a training changes; of a cell that none changes, such as a reservoir, all."""
    drawn = {n: int(np.size(p)) for n, p in cell.init_params(np.random.default_rng(0)).items()}
    return sum(size for n, size in drawn.items() if n not in cell.fixed) or sum(drawn.values())


def _state_size(cell: Cell) -> int:
    return cell.state_size


def _sized(cell: Cell, count: Callable[[Cell], int], budget: int) -> Cell:
    if "hidden_size" not in {f.name for f in dataclasses.fields(cell)}:  # type: ignore[arg-type]
        raise InputError(f"{cell!r} has no hidden_size, so that it cannot be made to match; leave it out")

    apart = max(_APART, cell.hidden_size)  # type: ignore[attr-defined]

    def made(units: int) -> Cell | None:
        """The cell of this size; None where it does not come in it, as with heads that have to be equal."""
        try:
            return dataclasses.replace(cell, hidden_size=units)  # type: ignore[type-var]
        except InputError:
            return None

    def next_made(units: int) -> Cell | None:
        return next(filter(None, map(made, range(units, units + apart))), None)

    def fits(units: int) -> bool:
        """Whether it is within the budget; of a size that it does not come in, the next larger one."""
        found = next_made(units)
        return found is not None and count(found) <= budget

    low, high = 0, 1
    while fits(high):
        if high > _LARGEST:
            raise InputError(f"{cell!r} of {high} units is within the budget of {budget}; give a smaller one")
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    best = next_made(low) if low else None
    if best is None:
        raise InputError(f"{cell!r}: one unit is beyond the budget of {budget}; give a larger one")
    return best
