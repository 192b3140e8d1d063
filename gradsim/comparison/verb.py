"""The verb: run several cells alike, and record how gradients travel through time in each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import xarray as xr

from gradsim.comparison.alike import Alike
from gradsim.comparison.members import NONE, Member, left_out
from gradsim.comparison.parameters import CompareParameters, ComparisonParameters
from gradsim.comparison.prepared import Comparison, named
from gradsim.contracts.cell import Cell
from gradsim.contracts.mitigation import Mitigation
from gradsim.contracts.recorder import Recorder
from gradsim.errors import InputError, shown
from gradsim.run.launch import launch
from gradsim.run.matching import COUNTS, matched
from gradsim.run.parameters import PreparationParameters, listed, verb
from gradsim.simulation import prepare

RECORD = ("product_norm", "adjoint_norm", "gradient_norm", "leading_lyapunov")
"""What is recorded unless something is asked for."""

MITIGATED = (
    *("effective_product_norm", "effective_adjoint_norm", "effective_gradient_norm"),
    *("effective_adjoint_factor", "effective_gradient_factor"),
    *("gradient_bias", "gradient_cosine", "adjoint_energy_removed"),
)
"""What is recorded besides where there are mitigations."""


@verb(CompareParameters)
def compare(given: CompareParameters) -> xr.Dataset:
    """Run several cells alike, with several seeds, and record how gradients travel through time in each.

    Inputs or task, loss and settings are the same for all cells, and so is what a seed draws besides the
    weights of the cell; `match` makes the cells of one size. What is compared is the gain, which does not
    grow with the state: ``analysis.gain``, ``gain_by_lag`` and ``horizon`` take the result. What is recorded
    by component, such as products themselves, can stand side by side for states of one layout only.

    With `mitigations` each cell runs with each of them, from the same parameters unless they change these;
    ``analysis.effects`` says what they do to the gradient and what they cost. Where one makes the state
    larger, gains are relative to its own size; if it carries older states along, such as `skip`, these are
    part of it and of its gain, and ``Pairs(blocks_out=, blocks_in=)`` leads past them: from a block of the
    cell to one. Bias and cosine by parameter are NaN for parameters that only others have.

    Returns
    -------
    xarray.Dataset
        The recorded variables, dims `cell` and `seed` before those of `simulate`, with mitigations
        `mitigation` in between; the values are those that `simulate` gives. The protocol is in coordinates
        along `cell`: `hidden_size`, `state_size`, `param_count` and `all_param_count`, `derivatives`, all but
        the first along `mitigation`, too; and, where cells are matched, `match`, `budget` and
        `budget_deviation`. Along `mitigation` there are the `phases` in which they act, in order. Of what one
        gradient costs there are then `forward_flops`, `backward_flops` (NaN under a rule that does not say
        its own) and `memory_bytes` as planned, and `forward_seconds`, `backward_seconds` (those of the rule
        where there is one) and `gradient_seconds` (both, and what it takes to start), which are measured:
        they alone differ from run to run.

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
    mitigations = None if given.mitigations is None else _in_order(given.mitigations)
    if mitigations is None and given.replicates > 1:
        raise InputError("replicates differ in what mitigations draw: give mitigations, too, or leave it out")
    shared = listed(ComparisonParameters).keys() & listed(PreparationParameters).keys()
    settings = {name: getattr(given, name) for name in shared - {"mitigations", "record"}}
    record = _record(given, mitigations is not None)
    members = [
        Member(
            {"cell": i} if mitigations is None else {"cell": i, "mitigation": j},
            label if mitigations is None else f"{label}, {name}",
            cell,
            chosen,
            left_out(record, chosen),
            {**settings, "mitigations": chosen},
        )
        for i, (label, cell) in enumerate(cells.items())
        for j, (name, chosen) in enumerate((mitigations or {NONE: ()}).items())
    ]
    if twice := [label for label, used in Counter(m.label for m in members).items() if used > 1]:
        raise InputError(f"two runs would be called {twice[0]!r}; give cells or mitigations other labels")
    runs = {}
    for member in members:
        with named(member.label):
            runs[member.label] = prepare(member.cell, rng=seeds[0], tried=True, **member.recording(record))
    absent = {member.label: member.absent for member in members}
    found = Comparison(
        cells,
        mitigations,
        members,
        seeds,
        given.replicates,
        given.match,
        budget,
        record,
        Alike(runs, absent),
    )
    found.variables()
    return found


def _record(given: ComparisonParameters, mitigated: bool) -> list[str | Recorder]:
    if given.record is None:
        return [*RECORD, *(MITIGATED if mitigated else ())]
    there = {r if isinstance(r, str) else r.name for r in given.record}
    needed = {"gradient_bias"} - there if given.replicates > 1 else ()  # which has the names of parameters
    return [*given.record, *needed]


def _in_order(given: Any) -> dict[str, tuple[Mitigation, ...]]:
    """The mitigations that act together, by label, which is made of their names where there is none."""
    if isinstance(given, Mapping):
        found = {label: _several(chosen) for label, chosen in given.items()}
        if found.get(NONE):
            raise InputError(
                f"mitigations: {NONE!r} stands for none at all; give {found[NONE]!r} another label"
            )
    else:
        several = [_several(chosen) for chosen in given]
        labels = ["+".join(m.name for m in chosen) or NONE for chosen in several]
        if twice := [name for name, used in Counter(labels).items() if used > 1]:
            raise InputError(
                f"mitigations: several are called {twice[0]!r}; label them, as in {{'short': one, 'long': "
                "other}"
            )
        found = dict(zip(labels, several, strict=True))
    return {NONE: (), **found}


def _several(chosen: Any) -> tuple[Mitigation, ...]:
    found = [chosen] if isinstance(chosen, Mitigation) else chosen
    if not isinstance(found, list | tuple) or not all(isinstance(m, Mitigation) for m in found):
        raise InputError(f"mitigations should hold mitigations, or lists of them (got {shown(chosen)})")
    return tuple(found)


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
