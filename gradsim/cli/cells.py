"""What ``gradsim list cells --long`` tells of each cell."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from gradsim.cli.output import table

if TYPE_CHECKING:
    from gradsim.contracts.cell import Cell

SIZE = 4
"""Inputs and units of a cell whose derivatives are measured."""

_DIRECTIONS = 3

_BLOCKS = 16
"""Characters, so that references have room on a terminal."""


def long_table(classes: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A table of all cells at their defaults, and what went wrong with some of them."""
    from gradsim.machine.progress import progress

    columns = ("name", "blocks", "g x k", "derivatives", "params", "deviation", "reference")
    title = f"Cells at their defaults; deviation from central differences with {SIZE} inputs and units"
    made, failures = table(title, *columns, numbers=("params", "deviation")), list[str]()
    made.columns[1].max_width = _BLOCKS
    with progress(lambda: len(classes), None, None) as advance:
        for name, cls in sorted(classes.items()):
            try:
                told = _told(cls())
            except Exception as error:  # whatever a plugin does wrong must not take the rest down
                told = ("",) * 4 + ("failed",)
                failures.append(f"{name}: {type(error).__name__}: {error}")
            made.add_row(name, *told, reference(cls))
            advance(name, 1)
    return made, failures


def _told(cell: Cell) -> tuple[str, ...]:
    import numpy as np

    blocks = ", ".join(f"{name} {size}" for name, size in cell.blocks.items())
    groups = cell.jacobian_groups
    count = sum(np.size(p) for p in cell.init_params(np.random.default_rng(0)).values())
    structure = f"{groups} x {cell.state_size // groups}"
    error = f"{deviation(small(cell)):.0e}" if cell.exact else "not exact"
    return blocks, structure, _way(cell), f"{count}", error


def _way(cell: Cell) -> str:
    """Who makes its derivatives: its author, or gradsim from the step."""
    from gradsim.engine.derivatives import METHODS

    if not cell.exact:
        return "surrogate"
    written = [cell.analytic(m) and cell.written(m) != "unit" for m in METHODS]
    return "analytic" if all(written) else "mixed" if any(written) else "free"


def deviation(cell: Cell) -> float:
    """The largest relative error of its derivatives, in float64; NaN where none can be told."""
    import numpy as np

    from gradsim.contracts.trajectory import Trajectory
    from gradsim.engine.derivatives import errors
    from gradsim.testing.cell.bench import CellBench

    bench = CellBench(cell)
    here = bench.points
    data = {n: x[None] for n, x in here.data.items()}
    at = Trajectory(cell, here.params, here.state[None], here.inputs[None], data)
    with np.errstate(all="ignore"):
        found = [e for i in range(_DIRECTIONS) for e in errors(at, bench.rng(f"direction {i}")).values()]
    return float(np.fmax.reduce(found))


def small(cell: Cell) -> Cell:
    """The cell, and those inside, with few inputs and units; as it is where it cannot have so few."""
    from gradsim.errors import GradsimError

    fields: Iterable[Any] = dataclasses.fields(cell)  # type: ignore[arg-type]
    values = {f.name: _small(f.name, getattr(cell, f.name)) for f in fields}
    try:
        return type(cell)(**values)
    except GradsimError:
        return cell


def _small(name: str, value: Any) -> Any:
    from gradsim.contracts.cell import Cell

    if name in ("input_size", "hidden_size"):
        return SIZE
    if isinstance(value, tuple):
        return tuple(_small("", v) for v in value)
    return small(value) if isinstance(value, Cell) else value


def reference(cls: type) -> str:
    """The first reference in the last paragraph of a docstring that names a year; `gradsim show` has all."""
    paragraphs = re.split(r"\n\s*\n", cls.__doc__ or "")
    said = [" ".join(p.split()) for p in paragraphs if re.search(r"\((1[89]|20)\d\d\)", p)]
    return re.split(r"; |(?<=\w)\. (?=[A-Z])", said[-1])[0].rstrip(".") if said else ""
