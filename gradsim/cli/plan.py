"""``gradsim plan``: what an experiment would cost."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.options import chosen, simulation_options
from gradsim.cli.output import console, count, table

if TYPE_CHECKING:
    import numpy as np

    from gradsim.contracts.recorder import Variable
    from gradsim.experiment.kinds import SimulationExperiment
    from gradsim.plan.plan import Plan
    from gradsim.simulation import Simulation


@click.command("plan")
@simulation_options
def command(**options: Any) -> None:
    """Say what an experiment would cost.

    Time, memory, disk, operations by stage, and every variable with its dims and size. To find out, a
    shorter run is tried for a second or two; nothing of it is kept.

    \b
    Examples:
      gradsim plan
      gradsim plan --cell lru --task adding --set task.length=5000 --set pairs.max_lag=200
    """
    from gradsim.experiment.kinds import SimulationExperiment

    runs = chosen(SimulationExperiment, **options)
    show_plans(runs, [run.prepare() for run in runs])


def show_plans(runs: Sequence[SimulationExperiment], simulations: Sequence[Simulation]) -> None:
    """Print the plan of each run."""
    for run, simulation in zip(runs, simulations, strict=True):
        _show(run, simulation)


def _show(run: SimulationExperiment, simulation: Simulation) -> None:
    from gradsim.machine.disk import human

    plan, out = simulation.plan, console()
    problem = plan.problem
    steps, m = f"{problem.steps} steps", problem.cell.state_size
    out.print(f"{run.name}: {run.cell.name} on {run.task.name}, {steps}, batch {run.batch}, state {m}")
    for line in _expected(simulation):
        out.print(line)
    out.print(f"disk {human(plan.data_bytes)} before compression")
    out.print(_stages(plan))
    sizes = plan.problem.sizes()
    out.print(variables([v for _, v in plan.variables()], sizes, plan.problem.dtype))


def _expected(simulation: Simulation) -> Iterator[str]:
    """Lines on time and memory; a trial that fails says why they are not known."""
    import psutil

    from gradsim.errors import GradsimError
    from gradsim.machine.disk import human
    from gradsim.run.estimate import estimate

    least, available = (human(n) for n in (simulation.plan.memory_bytes, psutil.virtual_memory().available))
    try:
        found = estimate(simulation)
    except GradsimError as error:
        yield f"time and peak of memory not known, because a shorter run failed: {error}"
        yield f"memory: the run needs at least {least} ({available} available)"
        return
    yield f"time about {duration(found.time)}"
    yield f"memory {human(found.peak)} at the peak: {human(found.run)} of the run, the rest of the program"
    yield f"the run works with {least} or more of memory ({available} available)"


def duration(seconds: float) -> str:
    """A time for people, as exact as an estimate is."""
    for unit, size in (("s", 60), ("min", 60), ("h", 24)):
        if seconds < size:
            return f"{max(1, round(seconds))} {unit}"
        seconds /= size
    return f"{round(seconds)} days"


def _stages(plan: Plan) -> Any:
    stages = table("Operations", "stage", "flops", numbers=("flops",))
    flops = plan.flops()
    for stage, number in flops.items():
        if number:
            stages.add_row(stage, count(number))
    stages.add_row("in all", count(sum(flops.values())))
    return stages


def variables(found: Iterable[Variable], lengths: Mapping[str, int], dtype: np.dtype) -> Any:
    """A table of variables; `dtype` is that of those that name none."""
    from gradsim.machine.disk import human

    made = table("Variables", "name", "dims", "dtype", "size", numbers=("size",))
    for variable in found:
        dims = ", ".join(f"{d} {lengths[d]}" for d in variable.dims)
        size = human(variable.bytes_in(lengths, dtype))
        made.add_row(variable.name, f"({dims})", variable.dtype or str(dtype), size)
    return made
