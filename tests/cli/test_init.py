"""Help is quick, has examples, and mistakes of usage are told apart from failures."""

from __future__ import annotations

import subprocess
import sys

import pytest

from gradsim.cli import COMMANDS

HEAVY = ("numpy", "xarray", "zarr", "pydantic", "matplotlib", "rich", "autograd", "pytest")


@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_imports_nothing_heavy(command):
    code = f"""
import sys
from gradsim.cli import main
try:
    main({[*command, "--help"]})
except SystemExit as end:
    assert end.code == 0
assert not set(sys.modules) & set({HEAVY}), set(sys.modules) & set({HEAVY})
"""
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example(gradsim_cli, command):
    output = gradsim_cli(command, "--help").output
    assert "Examples:" in output
    assert f"  gradsim {command}" in output


def test_all_commands_are_listed(gradsim_cli):
    output = gradsim_cli("--help").output
    assert all(f"  {command} " in output for command in COMMANDS)


def test_a_mistyped_command_gets_the_nearest_one(gradsim_cli):
    result = gradsim_cli("lsit")
    assert result.exit_code == 2
    assert "unknown command 'lsit'; did you mean 'list'?" in result.output


def test_an_unknown_plugin_to_load_is_a_mistake_of_usage(gradsim_cli, monkeypatch):
    from gradsim.contracts import registry

    monkeypatch.setenv("GRADSIM_LOAD_PLUGINS", "gradsimm")
    registry.catalogue.cache_clear()
    try:
        result = gradsim_cli("list")
    finally:
        registry.catalogue.cache_clear()
    assert result.exit_code == 2
    assert "did you mean 'gradsim'?" in result.output
