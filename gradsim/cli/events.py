"""What happens in a training, as lines of JSON for machines."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping
from typing import Any

import click

_SECONDS = 1.0
"""Between two updates that are told."""


class Events:
    """Writes one JSON object a line to stdout, each with the `run` that it is of.

    Updates are told at most once a second, and the last one always. What is not a number is null.
    """

    def __init__(self, run: str) -> None:
        self.run = run
        self._told = -math.inf
        self._waiting: Mapping[str, Any] | None = None

    def __call__(self, event: Mapping[str, Any]) -> None:
        """Write an event, or keep an update in case it is the last one."""
        if event["event"] != "update":
            _write(self.run, event)
        elif time.monotonic() - self._told < _SECONDS:
            self._waiting = event
        else:
            _write(self.run, event)
            self._told, self._waiting = time.monotonic(), None

    def end(self, event: str, values: Mapping[str, Any]) -> None:
        """Write the last update, unless it has been told, and how it ended."""
        if self._waiting:
            _write(self.run, self._waiting)
        _write(self.run, {"event": event, **values})


def _write(run: str, event: Mapping[str, Any]) -> None:
    values = {key: _plain(value) for key, value in event.items()}
    try:
        click.echo(json.dumps({"event": values.pop("event"), "run": run, **values}))
    except BrokenPipeError:
        _go_on_unheard()


def _go_on_unheard() -> None:
    """Let all that is still written to stdout be lost, so that the training goes on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
    click.echo("nobody reads what happens any more; the training goes on", err=True)


def _plain(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value
