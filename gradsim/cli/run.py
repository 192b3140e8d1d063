"""``gradsim run``: run an experiment, save it, draw it."""

from __future__ import annotations

from typing import Any

import click

from gradsim.cli.flow import perform
from gradsim.cli.options import experiment_options, folder_options, launch_options
from gradsim.run.parameters import LaunchParameters, SimulationParameters


@click.command("run")
@experiment_options(SimulationParameters)
@folder_options
@launch_options(LaunchParameters)
def command(**options: Any) -> None:
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
    from gradsim.experiment.kinds import SIMULATION

    perform(SIMULATION, **options)
