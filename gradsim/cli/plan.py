"""``gradsim plan``: what an experiment would cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.options import chosen, experiment_options
from gradsim.cli.output import console, count, table

if TYPE_CHECKING:
    from gradsim.engine.plan import Plan
    from gradsim.experiment import Experiment
    from gradsim.simulation import Simulation


@click.command("plan")
@experiment_options
def command(**options: Any) -> None:
    """Say what an experiment would cost.

    Memory, disk, operations by stage, and every variable with its dims and size. Nothing is run.

    \b
    Examples:
      gradsim plan
      gradsim plan --cell lru --task adding --set task.length=5000 --set pairs.max_lag=200
    """
    runs = chosen(**options)
    show_plans(runs, [run.prepare() for run in runs])


def show_plans(runs: Sequence[Experiment], simulations: Sequence[Simulation]) -> None:
    """Print the plan of each run."""
    for run, simulation in zip(runs, simulations, strict=True):
        _show(run, simulation.plan)


def _show(run: Experiment, plan: Plan) -> None:
    import psutil

    from gradsim.engine.plan import human

    problem, out = plan.problem, console()
    steps, m = f"{problem.steps} steps", problem.cell.state_size
    out.print(f"{run.name}: {run.cell.name} on {run.task.name}, {steps}, batch {run.batch}, state {m}")
    memory, available = human(plan.memory_bytes), human(psutil.virtual_memory().available)
    out.print(f"memory {memory} ({available} available), disk {human(plan.data_bytes)} before compression")
    out.print(_stages(plan))
    out.print(_variables(plan))


def _stages(plan: Plan) -> Any:
    stages = table("Operations", "stage", "flops", numbers=("flops",))
    flops = plan.flops()
    for stage, number in flops.items():
        if number:
            stages.add_row(stage, count(number))
    stages.add_row("in all", count(sum(flops.values())))
    return stages


def _variables(plan: Plan) -> Any:
    from gradsim.engine.plan import human

    sizes = plan.problem.sizes()
    made = table("Variables", "name", "dims", "dtype", "size", numbers=("size",))
    for _, variable in plan.variables():
        dims = ", ".join(f"{d} {sizes[d]}" for d in variable.dims)
        dtype = variable.dtype or str(plan.problem.dtype)
        made.add_row(variable.name, f"({dims})", dtype, human(variable.bytes(plan.problem)))
    return made
