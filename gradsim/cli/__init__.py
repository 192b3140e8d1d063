"""The command line: one module per command, loaded when it is asked for.

Nothing heavy is imported before a command runs, so that ``--help`` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from gradsim.cli.outcome import outcome, settle_streams
from gradsim.errors import unknown

COMMANDS = {
    "run": "run",
    "train": "train",
    "compare": "compare",
    "resume": "resume",
    "plan": "plan",
    "list": "listing",
    "show": "show",
    "verify": "verify",
    "check": "check",
    "new": "new",
}


class Commands(click.Group):
    """The commands, found by name; every one ends as `outcome` says."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run what the arguments say."""
        settle_streams()
        return super().main(*args, **kwargs)

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of a first acquaintance."""
        return [*COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Load the module of this command."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"gradsim.cli.{COMMANDS[cmd_name]}")
        return module.command  # type: ignore[no-any-return]

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Offer the nearest command for a mistyped one."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            ctx.fail(str(unknown("command", args[0], COMMANDS)))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with outcome(ctx):
            return super().invoke(ctx)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="gradsim")
def main() -> None:
    """How gradients travel through time in recurrent networks.

    \b
    Examples:
      gradsim run                       an LSTM and an Elman network on the sunspot numbers
      gradsim run --cell gru --task adding --dry-run
      gradsim train                     an LSTM that learns, and an Elman network that does not
      gradsim compare --cell lstm,gru --match params=10000 --seeds 3
      gradsim resume runs/adding        what was interrupted
      gradsim list cells
    """
