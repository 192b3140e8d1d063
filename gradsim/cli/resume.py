"""``gradsim resume``: go on with a training where it stopped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from gradsim.cli.options import following_options, launch_options
from gradsim.training.parameters import FollowingParameters


@click.command("resume")
@click.argument("folder", type=click.Path(path_type=Path), metavar="RUN")
@launch_options(FollowingParameters)
@following_options
def command(folder: Path, as_json: bool, **how: Any) -> None:
    """Go on with a training where it stopped.

    RUN is its folder, with the last checkpoint in it. The training ends with the numbers of one that was
    never interrupted. Where its code or versions have changed since it began it is refused, and goes on
    all the same with --allow-changed.

    \b
    Examples:
      gradsim resume runs/adding
      gradsim resume runs/adding --live 10
    """
    from gradsim.cli.following import follow
    from gradsim.cli.summary import summarise
    from gradsim.data.store import read_record
    from gradsim.training.resuming import rebuilt

    record = read_record(folder)
    training = rebuilt(record, folder)
    if record["status"] == "complete":
        click.echo(f"{folder} is complete: there is nothing to go on with", err=True)
        return
    ds = follow(folder.name, training, folder, as_json=as_json, resume=True, **how)
    if not as_json:
        summarise(training.kind, {folder.name: ds}, {folder.name: folder})
