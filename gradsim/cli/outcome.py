"""How a command ends: its exit code, and warnings and errors as plain lines on stderr."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from gradsim.errors import (
    ChangedRunError,
    GradsimError,
    IncompleteRunError,
    InputError,
    OutOfRangeWarning,
    PluginWarning,
    UnknownNameError,
)

FAILED, USAGE, INCOMPLETE, INTERRUPTED = 1, 2, 3, 130


class Failure(click.ClickException):
    """An error that the user should read without a traceback."""

    def __init__(self, error: GradsimError) -> None:
        super().__init__(str(error))
        self.exit_code = exit_code(error)  # type: ignore[misc]  # click says ClassVar, and reads the instance


def exit_code(error: GradsimError) -> int:
    """2 for what was asked wrongly, 3 for an incomplete run, 1 for everything else."""
    if isinstance(error, InputError | UnknownNameError | ChangedRunError):
        return USAGE
    return INCOMPLETE if isinstance(error, IncompleteRunError) else FAILED


def settle_streams() -> None:
    """Let nothing that is written fail because the streams are closed, or know few characters."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def outcome(ctx: click.Context) -> Iterator[None]:
    """Turn what ends a command into a message and an exit code."""
    try:
        with plain_warnings():
            yield
    except GradsimError as error:
        raise Failure(error) from error
    except OSError as error:
        if error.errno == errno.EPIPE:  # nobody reads on, and click ends without a word
            raise
        raise click.ClickException(str(error)) from error
    except MemoryError as error:
        raise click.ClickException(
            f"out of memory: {error}; `gradsim plan` says what takes how much"
        ) from error
    except KeyboardInterrupt as error:
        what_next = str(error) or f"To run it again: {_again(sys.argv[1:])}"
        click.echo(f"\nInterrupted. {what_next}", err=True)
        ctx.exit(INTERRUPTED)


def _again(arguments: list[str]) -> str:
    """The same command; a run has left a folder by now, which only --force replaces."""
    force = ["--force"] if arguments[:1] in (["run"], ["compare"]) and "--force" not in arguments else []
    return shlex.join(["gradsim", *arguments, *force])


@contextmanager
def plain_warnings() -> Iterator[None]:
    """Show the warnings that gradsim gives on purpose as one line each."""
    with warnings.catch_warnings():
        for category in (OutOfRangeWarning, PluginWarning):
            warnings.simplefilter("always", category)
        usual = warnings.showwarning

        def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
            if issubclass(category, OutOfRangeWarning | PluginWarning):
                click.echo(f"Warning: {message}", err=True)
            else:
                usual(message, category, *where, **more)

        warnings.showwarning = show
        yield
