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

ON_PURPOSE = "its way back is not the derivative of its step, on purpose: there is no deviation"


def long_table(classes: Mapping[str, Any]) -> tuple[Any, list[str]]:
    """A table of all cells at their defaults, and what is missing or went wrong, in words."""
    from gradsim.machine.progress import progress
    from gradsim.testing.cell.libraries import LIBRARIES, installed

    columns = ("name", "blocks", "g x k", "derivatives", "params", "f64", "f32", "runs", "reference")
    there = installed()
    letters = ", ".join(f"{name[0]} {name}" for name in there)
    title = (
        f"Cells at their defaults. With {SIZE} inputs and units: f64, relative deviation of derivatives from "
        "central differences; f32, of those in float32 from those in float64; runs, other array libraries in "
        f"which a step gives what it gives in NumPy ({letters or 'none is installed'})"
    )
    made, notes = table(title, *columns, numbers=("params", "f64", "f32")), list[str]()
    made.columns[1].max_width, made.padding = _BLOCKS, (0, 1, 0, 0)  # references need the room
    with progress(lambda: len(classes), None, None) as advance:
        for name, cls in sorted(classes.items()):
            try:
                told, own = _told(cls(), there)
            except Exception as error:  # whatever a plugin does wrong must not take the rest down
                told, own = ("",) * 4 + ("failed", "", ""), [f"{type(error).__name__}: {error}"]
            made.add_row(name, *told, reference(cls))
            notes += [f"{name}: {note}" for note in own]
            advance(name, 1)
    if missing := [name for name in LIBRARIES if name not in there]:
        notes.append(f"not installed: {', '.join(missing)}".replace("torch", "torch with array-api-compat"))
    return made, notes


def _told(cell: Cell, libraries: Mapping[str, Any]) -> tuple[tuple[str, ...], list[str]]:
    """The row of a cell but for its name and reference, and what else there is to say."""
    import numpy as np

    blocks = ", ".join(f"{name} {size}" for name, size in cell.blocks.items())
    groups = cell.jacobian_groups
    count = sum(np.size(p) for p in cell.init_params(np.random.default_rng(0)).values())
    structure = f"{groups} x {cell.state_size // groups}"
    examined, notes = small(cell), []
    deviations = ("-", "-")
    if cell.exact:
        deviations = f"{deviation(examined):.0e}", f"{deviation32(examined):.0e}"
    else:
        notes.append(ON_PURPOSE)
    wrong = unlike(examined, libraries)
    runs = " ".join("-" if name in wrong else name[0] for name in libraries)
    notes += [f"its step {why}" for why in wrong.values()]
    return (blocks, structure, _way(cell), f"{count}", *deviations, runs), notes


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


def deviation32(cell: Cell) -> float:
    """The largest relative error of its derivatives in float32, beside those in float64.

    Relative to the largest entry of each, or to a hundredth of the largest of all where that is more.
    """
    import numpy as np

    from gradsim.testing.cell.bench import CellBench
    from gradsim.testing.cell.derivatives import derivatives_at

    bench = CellBench(cell)
    here = bench.points.copy("float32")
    u = bench.rng("cotangent").standard_normal(here.state.shape).astype(np.float32)
    low, high = (derivatives_at(bench, at, u.astype(at.state.dtype)) for at in (here, here.copy()))
    sizes = {name: np.abs(x).max(initial=0.0) for name, x in high.items()}
    least = max(*sizes.values(), 1e-300) / 100
    return float(max(np.abs(low[n] - x).max(initial=0.0) / max(sizes[n], least) for n, x in high.items()))


def unlike(cell: Cell, libraries: Mapping[str, Any]) -> dict[str, str]:
    """What its step does wrong in other array libraries, by name, where it does."""
    from gradsim.testing.cell.bench import CellBench
    from gradsim.testing.cell.libraries import why_not

    run = CellBench(cell).run
    found = {name: why_not(cell.step, run, name, xp) for name, xp in libraries.items()}
    return {name: why for name, why in found.items() if why is not None}


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
