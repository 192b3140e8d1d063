"""``gradsim compare``: run several cells alike, save them side by side, draw them."""

from __future__ import annotations

from typing import Any

import click

from gradsim.cli.flow import perform
from gradsim.cli.options import experiment_options, folder_options, launch_options
from gradsim.comparison.parameters import ComparisonParameters
from gradsim.run.parameters import LaunchParameters


@click.command("compare")
@experiment_options(ComparisonParameters)
@folder_options
@launch_options(LaunchParameters)
def command(match: str | None, **options: Any) -> None:
    """Compare cells, or mitigations: the same inputs, loss and settings for all, with several seeds.

    Without an experiment an LSTM, a GRU and an Elman network with equally many parameters read the yearly
    sunspot numbers. --match NAME=BUDGET sizes all to one budget, of params or of state. All is saved in one
    folder, with dims `cell` and `seed`, and what was held equal beside it.

    With mitigations each cell runs without any and with each of them. The folder then has a dim `mitigation`,
    a table of what they do to the gradient and what they cost, which is in effects.csv, too, and figures.

    \b
    Examples:
      gradsim compare
      gradsim compare --cell lstm,gru,elman --match params=10000 --seeds 3
      gradsim compare --cell lru,lem --task adding --set cells.lem.hidden_size=64
      gradsim compare --cell lstm --mitigations truncate,clip_value,truncate+clip_norm

    \b
    An experiment file:
      name = "gates"                 # the folder is runs/gates
      seeds = 3                      # or a list of seeds
      match = "params"               # or "state"; without it cells are as they are given
      budget = 10000
      [task]
      name = "adding"
      [[cells]]
      name = "lstm"
      [[cells]]
      name = "gru"
      label = "small GRU"            # else its name
      hidden_size = 8
      [[mitigations]]
      name = "truncate"
      k2 = 30
      [[mitigations]]
      label = "both"
      in_order = [{ name = "truncate" }, { name = "clip_norm", max_norm = 0.1 }]
    """
    from gradsim.experiment.kinds import COMPARISON

    if match and "=" in match:
        match, _, given = match.partition("=")
        if options["budget"] is not None:
            raise click.UsageError(f"--match {match}={given} is a budget already: leave --budget out")
        options["budget"] = click.INT(given, None, click.get_current_context())
    perform(COMPARISON, match=match, **options)
