"""``gradsim plan``: what an experiment would cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.options import chosen, experiment_options
from gradsim.cli.output import console, count, table
from gradsim.run.parameters import SimulationParameters

if TYPE_CHECKING:
    import numpy as np

    from gradsim.contracts.recorder import Variable
    from gradsim.experiment.kinds import Experiment
    from gradsim.plan.plan import Plan
    from gradsim.run.launch import Prepared


@click.command("plan")
@experiment_options(SimulationParameters)
def command(**options: Any) -> None:
    """Say what an experiment would cost.

    Time, memory, disk, operations by stage, and every variable with its dims and size. To find out, a
    shorter run is tried for a second or two; nothing of it is kept.

    \b
    Examples:
      gradsim plan
      gradsim plan --cell lru --task adding --set task.length=5000 --set pairs.max_lag=200
    """
    from gradsim.experiment.kinds import SIMULATION

    runs = chosen(SIMULATION, **options)
    show_plans(runs, [run.prepare(tried=True) for run in runs], None)


def show_plans(runs: Sequence[Experiment], prepared: Sequence[Prepared], threads: int | None) -> None:
    """Print the plan of each run."""
    from gradsim.data.schema import phases_in_words
    from gradsim.machine.disk import human

    out = console()
    for run, one in zip(runs, prepared, strict=True):
        p, task = one.problem, run.arguments["task"]
        cells = run.arguments["cells"] if "cells" in run.arguments else [run.arguments["cell"].name]
        size, *costs = _COSTS[one.kind](one, threads)
        out.print(f"{run.name}: {', '.join(cells)} on {task.name}, {p.steps} steps, batch {p.batch}, {size}")
        if one.kind != "comparison" and one.provenance["phases"]:
            out.print(f"acts: {phases_in_words(one.provenance)}")
        for cost in costs:
            out.print(cost)
        if one.kind != "comparison":  # which has a table of them
            out.print(_library(one.provenance))
        out.print(f"disk {human(sum(one.sizes().values()))} before compression")
        frame = one.frame()
        out.print(_variables(one.variables(), frame.sizes, frame.dtype))


def _of_simulation(simulation: Any, threads: int | None) -> Iterator[Any]:
    """The size of its state, time and memory, and operations by stage."""
    yield f"state {simulation.problem.cell.state_size}"
    yield from _expected(simulation, threads)
    again, kept = simulation.plan.recomputed_steps(None), simulation.plan.schedule(None).snapshots()
    if again:
        yield f"{count(again)} steps are taken again, from {kept} snapshots at most"
    yield _stages(simulation.plan)


def _expected(simulation: Any, threads: int | None) -> Iterator[str]:
    """Lines on time and memory; a trial that fails says why they are not known."""
    import psutil

    from gradsim.errors import GradsimError
    from gradsim.machine.disk import human
    from gradsim.run.estimate import estimate

    least, available = (human(n) for n in (simulation.plan.memory_bytes, psutil.virtual_memory().available))
    try:
        found = estimate(simulation, threads)
    except GradsimError as error:
        yield f"time and peak of memory not known, because a shorter run failed: {error}"
        yield f"memory: the run needs at least {least} ({available} available)"
        return
    yield f"time about {duration(found.time)}"
    yield f"memory {human(found.peak)} at the peak: {human(found.run)} of the run, the rest of the program"
    yield f"the run works with {least} or more of memory ({available} available)"


def _of_training(training: Any, threads: int | None) -> Iterator[str]:
    """How many parameters it has, and how long its updates, probes and validations take."""
    from gradsim.errors import GradsimError
    from gradsim.training.estimate import COUNTED, seconds

    setup = training.setup
    yield f"{setup.flat.size} parameters"
    lengths = setup.lengths(setup.updates)
    counts = [f"{lengths[d]} {event}{'s' * (lengths[d] > 1)}" for d, event in COUNTED.items() if lengths[d]]
    try:
        time = f"about {duration(seconds(training, threads))}"
    except GradsimError as error:
        time = f"time not known, because the first updates failed: {error}"
    yield f"{', '.join(counts)}: {time}"


def _of_comparison(comparison: Any, threads: int | None) -> Iterator[Any]:
    """How often it runs each cell, what each has of what is held equal, and its operations."""
    from gradsim.data.schema import dims_of

    found = comparison.frame().coordinates(["cell"])
    columns = [name for name, dims in dims_of(found).items() if dims[0] == "cell" and name != "cell"]
    yield f"{len(comparison.seeds)} seeds"
    made = table("Cells", "cell", *columns, numbers=tuple(columns))
    for row in _sized(comparison, [found[name][1].reshape(len(comparison.cells), -1) for name in columns]):
        made.add_row(*(f"{value:.3g}" if isinstance(value, float) else f"{value}" for value in row))
    yield made
    yield f"{count(comparison.work)} operations in all"


def _sized(comparison: Any, values: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
    """What each cell has, and what it has with mitigations that make another one of it.

    `values`, shape (cell, mitigation), or (cell, 1) of what they leave alone.
    """
    names = [*(comparison.mitigations or ("none",))]
    for i, cell in enumerate(comparison.cells):
        rows: dict[tuple[Any, ...], list[str]] = {}
        for j, name in enumerate(names):
            rows.setdefault(tuple(x[i, j % x.shape[1]] for x in values), []).append(name)
        for row, those in rows.items():
            yield (cell if names[0] in those else f"{cell}, {' / '.join(those)}"), *row


_COSTS = {"comparison": _of_comparison, "simulation": _of_simulation, "training": _of_training}
"""Kind -> what is said of its size, and then of its cost."""


def duration(seconds: float) -> str:
    """A time for people, as exact as an estimate is."""
    for unit, size in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < size:
            return f"{max(1, round(seconds))} {unit}"
        seconds /= size
    return f"{round(seconds)} days"


def _library(provenance: Mapping[str, Any]) -> str:
    """What makes the derivatives, and why not JAX."""
    library, because = provenance["derivatives"], provenance["derivatives_because"]
    return f"derivatives by {library}" + f" ({because})" * bool(because)


def _stages(plan: Plan) -> Any:
    stages = table("Operations", "stage", "flops", numbers=("flops",))
    flops = plan.flops()
    for stage, number in flops.items():
        if number:
            stages.add_row(stage, count(number))
    stages.add_row("in all", count(sum(flops.values())))
    return stages


def _variables(found: Iterable[Variable], lengths: Mapping[str, int], dtype: np.dtype) -> Any:
    """A table of variables; `dtype` is that of those that name none."""
    from gradsim.machine.disk import human

    made = table("Variables", "name", "dims", "dtype", "size", numbers=("size",))
    for variable in found:
        dims = ", ".join(f"{d} {lengths[d]}" for d in variable.dims)
        size = human(variable.bytes_in(lengths, dtype))
        made.add_row(variable.name, f"({dims})", variable.dtype or str(dtype), size)
    return made
