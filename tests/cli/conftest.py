"""What the tests of the command line share."""

from __future__ import annotations

import pytest
from click.testing import CliRunner

from gradsim.cli import main


@pytest.fixture
def gradsim_cli(tmp_path, monkeypatch):
    """Call a command in an empty folder; its result has exit_code and output (of both streams)."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        result = CliRunner().invoke(main, [str(a) for a in arguments], prog_name="gradsim")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call
