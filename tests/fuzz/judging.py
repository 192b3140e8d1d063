"""Commands called in this process, and what must not come of any of them."""

from __future__ import annotations

import os
import signal
from contextlib import contextmanager

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, settings

from gradsim.cli import main

SECONDS = 120
"""Of one case; nearly all take some milliseconds, but the first ones compile kernels."""

CODES = (0, 1, 2, 3, 130)


class Hang(BaseException):
    """A case took too long."""


def drawn(cases):
    """As many cases, the same ones every time.

    FUZZ=1 in the environment draws others, and pytest --hypothesis-seed=N draws those again.
    """
    return settings(
        max_examples=cases,
        derandomize="FUZZ" not in os.environ,
        database=None,
        deadline=None,
        suppress_health_check=[*HealthCheck],
    )


def short_and_long(short, long):
    """A test for each suite, with so many `cases`."""
    return pytest.mark.parametrize("cases", [short, pytest.param(long, marks=pytest.mark.long)])


@contextmanager
def deadline(what):
    def ring(*_):
        raise Hang(f"longer than {SECONDS} s: {what!r}")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def ends(arguments):
    """(exit code, what was said) of a command, which should end as a command may."""
    with deadline(arguments):
        result = CliRunner().invoke(main, arguments, prog_name="gradsim")
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code in CODES, (result.exit_code, result.output)
    assert "Traceback" not in result.output
    if result.exit_code:
        assert any(word in result.stderr for word in ("Error: ", "Failed: ", "Usage: ")), result.output
    return result.exit_code, result.output
