"""``gradsim verify``: whether runs are still what was written."""

from __future__ import annotations

from pathlib import Path

import click

from gradsim.errors import StoreError


@click.command("verify")
@click.argument("folders", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="RUN...")
@click.pass_context
def command(ctx: click.Context, folders: tuple[Path, ...]) -> None:
    """See whether runs are still what was written, down to the last bit.

    Every file of each RUN folder is read and compared with the manifest of the run. What is gone, changed or
    no part of it is told by name, and the command ends with 1.

    \b
    Examples:
      gradsim verify runs/adding
      gradsim verify runs/*
    """
    from gradsim.data.verify import verify

    wrong = 0
    for folder in folders:
        try:
            troubles = verify(folder)
        except StoreError as error:
            troubles = [str(error)]
        wrong += bool(troubles)
        click.echo(f"{folder}: {'whole' if not troubles else 'not as it was written'}")
        for line in troubles:
            click.echo(f"  {line}", err=True)
    if wrong:
        ctx.exit(1)
