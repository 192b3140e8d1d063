"""``gradsim run``: run an experiment, save it, draw it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from gradsim.cli.options import chosen, folder_options, simulation_options

if TYPE_CHECKING:
    from gradsim.experiment.kinds import SimulationExperiment
    from gradsim.simulation import Simulation


@click.command("run")
@simulation_options
@folder_options
def command(out: Path | None, force: bool, dry_run: bool, threads: int | None, **options: Any) -> None:
    """Run an experiment, save it and draw it.

    Without an experiment an LSTM reads the yearly sunspot numbers, next to an Elman network. Each run
    is saved in a folder: run.json, data.zarr (for xarray.open_zarr or gradsim.open_run) and figures as
    PNG and SVG. Everything is checked before the first folder is made.

    \b
    Examples:
      gradsim run
      gradsim run experiment.toml --set cell.hidden_size=64 --set seed=1
      gradsim run --cell elman --task adding --mitigation orthogonal_init --out runs/orthogonal

    \b
    An experiment file:
      name = "mine"                  # the folder is runs/mine
      record = ["product_norm"]      # see `gradsim list recorders`
      [task]
      name = "adding"
      length = 50
      [cell]
      name = "gru"                   # see `gradsim list cells` and `gradsim show gru`
      hidden_size = 64
      [[mitigations]]                # in this order
      name = "clip_norm"
      max_norm = 2.0
      [pairs]
      max_lag = 30
      [[compare]]                    # a second run that differs in what is given here
      label = "elman"
      cell = { name = "elman", hidden_size = 64 }
    """
    from gradsim.cli.folders import check_room, run_folders, would_write
    from gradsim.data.store import check_folder
    from gradsim.experiment.kinds import SimulationExperiment
    from gradsim.machine.disk import free_disk

    runs = chosen(SimulationExperiment, **options)
    folders = run_folders(runs, out)
    simulations = [run.prepare() for run in runs]
    for folder in folders:
        check_folder(folder, force)
    for simulation in simulations:
        simulation.plan.refuse_beyond(None, free_disk(folders[0]))
    check_room(folders, [s.plan.data_bytes for s in simulations])
    if dry_run:
        from gradsim.cli.plan import show_plans

        show_plans(runs, simulations)
        would_write(folders)
        return
    _execute(runs, folders, simulations, force=force, threads=threads)


def _execute(
    runs: list[SimulationExperiment], folders: list[Path], simulations: list[Simulation], **how: Any
) -> None:
    from gradsim.cli.figures import draw, draw_together
    from gradsim.cli.summary import summarise

    data = {}
    for run, folder, simulation in zip(runs, folders, simulations, strict=True):
        data[run.label] = simulation.run(folder, **how)
        draw(folder, run.label, data[run.label])
    if len(data) > 1:
        draw_together(folders[0], data)
    summarise(data, folders)
