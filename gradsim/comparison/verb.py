"""The verb: run several cells alike, and record how gradients travel through time in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import xarray as xr

from gradsim.comparison.alike import Alike
from gradsim.comparison.parameters import CompareParameters, ComparisonParameters
from gradsim.comparison.prepared import Comparison, named
from gradsim.contracts.cell import Cell
from gradsim.errors import InputError, shown
from gradsim.run.launch import launch
from gradsim.run.matching import COUNTS, matched
from gradsim.run.parameters import PreparationParameters, listed, verb
from gradsim.simulation import prepare


@verb(CompareParameters)
def compare(given: CompareParameters) -> xr.Dataset:
    """Run several cells alike, with several seeds, and record how gradients travel through time in each.

    Inputs or task, loss and settings are the same for all cells, and so is what a seed draws besides the
    weights of the cell; `match` makes the cells of one size. What is compared is the gain, which does not
    grow with the state: ``analysis.gain``, ``gain_by_lag`` and ``horizon`` take the result.

    Returns
    -------
    xarray.Dataset
        The recorded variables, dims `cell` and `seed` before those of `simulate`; the values are those that
        it gives. The protocol is in coordinates along `cell`: `hidden_size`, `state_size`, `param_count` and
        `all_param_count`, `derivatives`; and, where cells are matched, `match`, `budget` and
        `budget_deviation`.

    Raises
    ------
    InputError, UnknownNameError
        An argument does not fit; or what a recorder makes is not the same size for all cells, and cannot
        stand side by side.
    NonFiniteError, BudgetError, PluginError, StoreError
        As in `simulate`; names the cell.
    """
    return launch(_prepared(given), given)


@verb(ComparisonParameters)
def prepare_comparison(given: ComparisonParameters) -> Comparison:
    """Check all arguments of a comparison and plan it, without running it; see `compare`."""
    return _prepared(given)


def _prepared(given: ComparisonParameters) -> Comparison:
    cells, seeds = _labelled(given.cells), _values(given.seeds)
    budget = given.budget
    if given.match is not None:
        budget = budget or COUNTS[given.match](next(iter(cells.values())))
        cells = matched(cells, **{given.match: budget})
    elif budget is not None:
        raise InputError("budget is what cells are matched to: give match='params' or match='state', too")
    shared = listed(ComparisonParameters).keys() & listed(PreparationParameters).keys()
    settings = {name: getattr(given, name) for name in shared}
    runs = {}
    for label, cell in cells.items():
        with named(label):
            runs[label] = prepare(cell, rng=seeds[0], tried=True, **settings)
    found = Comparison(cells, seeds, given.match, budget, settings, Alike(runs))
    found.variables()
    return found


def _labelled(cells: Mapping[str, Cell] | Sequence[Cell]) -> dict[str, Cell]:
    if not cells:
        raise InputError("cells should hold at least one cell")
    if isinstance(cells, Mapping):
        return dict(cells)
    if twice := [name for name, used in Counter(cell.name for cell in cells).items() if used > 1]:
        raise InputError(
            f"cells: several are called {twice[0]!r}; label them, as in {{'small': cell, 'large': other}}"
        )
    return {cell.name: cell for cell in cells}


def _values(seeds: int | Sequence[int]) -> tuple[int, ...]:
    found = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)
    if not found or len(set(found)) < len(found):
        raise InputError(
            f"seeds should be a number of seeds, or a list without repetition (got {shown(seeds)})"
        )
    return found
