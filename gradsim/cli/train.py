"""``gradsim train``: train as an experiment says, save it, draw it."""

from __future__ import annotations

from typing import Any

import click

from gradsim.cli.flow import perform
from gradsim.cli.options import experiment_options, folder_options, following_options, launch_options
from gradsim.training.parameters import TrainingLaunchParameters, TrainingParameters


@click.command("train")
@experiment_options(TrainingParameters)
@folder_options
@launch_options(TrainingLaunchParameters)
@following_options
def command(**options: Any) -> None:
    """Train a cell on a task, save it and draw it.

    How gradients travel through time is recorded as it learns. Without an experiment an LSTM learns the
    adding problem, next to an Elman network that does not.
    Each run is saved in a folder: run.json, data.zarr (for xarray.open_zarr or gradsim.open_run) and
    figures as PNG and SVG. What was interrupted goes on with `gradsim resume FOLDER`, and ends with the
    numbers of a run that never was.

    \b
    Examples:
      gradsim train
      gradsim train --cell gru --optimizer adam --set optimizer.learning_rate=0.01 --updates 500
      gradsim train experiment.toml --live 10

    \b
    An experiment file; those of `gradsim run`, and:
      updates = 2000                 # or epochs, of a task with a limited number of sequences
      batch = 32                     # sequences of each update
      [task]
      name = "adding"
      [cell]
      name = "gru"
      [optimizer]
      name = "adam"                  # see `gradsim list optimizers`
      learning_rate = 0.005
      schedule = { name = "cosine" } # see `gradsim list schedules`
      [record]                       # recorders of a simulation, as the network learns
      every = 100
      recorders = ["product_norm"]
      [validate]
      every = 100
      [stop]
      score_above = 0.95             # or loss_below, patience
    """
    from gradsim.experiment.kinds import TRAINING

    perform(TRAINING, **options)
