"""`gradsim plan`, `list` and `show`: what there is and what it costs."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest

from gradsim.contracts import registry
from gradsim.errors import PluginWarning


def row(output, name):
    """The table row that starts with this name, with single spaces."""
    rows = (" ".join(line.split()) for line in output.splitlines())
    return next(text for text in rows if text.startswith(f"{name} "))


def test_a_plan_gives_dims_and_bytes_of_every_variable(gradsim_cli):
    result = gradsim_cli("plan", "--set", "task.length=99", "--batch", 2)
    assert result.exit_code == 0
    # 100 x 100 x 2 float64
    assert row(result.output, "product_norm") == "product_norm (time 100, source 100, batch 2) float64 160 kB"
    assert row(result.output, "adjoint") == "adjoint (time 100, batch 2, component 64) float64 102 kB"
    assert "sunspots-elman: elman on sunspots, 99 steps, batch 2, state 32" in result.output
    assert not Path("runs").exists()


def test_a_plan_gives_time_memory_and_disk(gradsim_cli):
    record = ("--record", "product_norm", "--record", "gradient")
    result = gradsim_cli("plan", "--cell", "gru", *record)
    assert result.exit_code == 0
    assert re.search(r"^time about \d+ (s|min)$", result.output, re.MULTILINE)
    assert re.search(r"^memory [\d.]+ [MG]B at the peak: [\d.]+ MB of the run", result.output, re.MULTILINE)
    # 2 x 309 x 309 float64, and two for each of the gradients
    assert "disk 1.5" in result.output
    assert not Path("runs").exists()


def test_a_plan_of_a_run_that_fails_says_why(gradsim_cli):
    flags = ("--cell", "elman", "--set", "cell.activation=relu", "--set", "cell.gain=1e300")
    result = gradsim_cli("plan", *flags)
    assert result.exit_code == 0
    assert "not known, because a shorter run failed" in result.output
    assert "the run needs at least" in result.output


def test_a_plan_gives_operations_by_stage(gradsim_cli):
    result = gradsim_cli("plan", "--cell", "elman", "--set", "task.length=10", "--record", "jacobian_product")
    # 10 + 9 + ... + 1 products of 32 x 32 matrices
    assert row(result.output, "products") == "products 3.6 M"


def test_a_plan_of_chosen_lags(gradsim_cli):
    flags = ("--set", "task.length=99", "--set", "pairs.lags=[10,1]", "--record", "product_norm")
    result = gradsim_cli("plan", "--cell", "elman", "--batch", 2, *flags)
    assert row(result.output, "product_norm") == "product_norm (source 100, lag 2, batch 2) float64 3.2 kB"
    # 10 products for each source but the last ones: 90 * 10 + 9, of 32 x 32 matrices of two elements
    assert row(result.output, "products") == "products 119 M"
    result = gradsim_cli("plan", "--set", "task.length=99", "--set", "pairs.lags=[100]")
    assert result.exit_code != 0
    assert "pairs: lags should lie in 0..99 (got [100])" in result.output


def test_a_plan_says_what_a_run_beyond_memory_needs(gradsim_cli):
    flags = ("--set", "task.length=100000", "--set", "cell.hidden_size=500")
    result = gradsim_cli("plan", "--task", "adding", *flags)
    assert result.exit_code == 0
    assert "the run works with 801 GB or more of memory (" in result.output  # 800 GB of step Jacobians


def test_list_shows_every_plugin_with_its_summary_and_distribution(gradsim_cli):
    result = gradsim_cli("list")
    assert result.exit_code == 0
    for family, classes in registry.catalogue().plugins.items():
        assert family.capitalize() in result.output
        for name in classes:
            assert name in result.output
    assert "h_t = phi(W h_{t-1} + U x_t + b)." in result.output
    assert row(result.output, "lstm").startswith(
        "lstm c_t = f * c_{t-1} + i * g and h_t = o * tanh(c_t). gradsim "
    )


def test_list_of_one_family(gradsim_cli):
    result = gradsim_cli("list", "tasks")
    assert "adding" in result.output
    assert "lstm" not in result.output


def test_list_names_the_recorders_that_exist_only_as_effective_ones(gradsim_cli):
    result = gradsim_cli("list", "recorders")
    assert "effective_adjoint_factor only" in result.output
    assert "effective_product_norm" in result.output
    assert "effective_state" not in result.output


def test_list_shows_plugins_that_could_not_be_loaded(gradsim_cli, monkeypatch):
    class Broken:
        problems = ("gradsim-broken 1.0: ImportError: no module named 'left_pad'",)
        plugins = registry.catalogue().plugins
        distributions = registry.catalogue().distributions

    def load():
        warnings.warn(f"plugin not loaded: {Broken.problems[0]}", PluginWarning, stacklevel=2)
        return Broken

    monkeypatch.setattr(registry, "catalogue", load)
    result = gradsim_cli("list", "cells")
    assert result.output.count("left_pad") == 1
    assert "not loaded: gradsim-broken 1.0: ImportError" in result.output
    other = gradsim_cli("show", "lstm")
    assert "Warning: plugin not loaded: gradsim-broken 1.0" in other.output


def test_show_gives_docstring_parameters_and_reference(gradsim_cli):
    result = gradsim_cli("show", "elman")
    assert result.exit_code == 0
    assert "h_t = phi(W h_{t-1} + U x_t + b)." in result.output
    assert "Elman (1990), Finding structure in time." in result.output
    assert row(result.output, "hidden_size") == "hidden_size int, > 0 32"
    assert row(result.output, "activation") == "activation one of 'tanh', 'relu', 'logistic' 'tanh'"
    assert "list of str or none" in gradsim_cli("show", "orthogonal_init").output


def test_show_says_that_a_task_has_no_readout(gradsim_cli, monkeypatch):
    told = "Without a readout: the loss looks at the output of the cell itself."
    assert told not in gradsim_cli("show", "sunspots").output
    monkeypatch.setattr(registry.catalogue().plugins["tasks"]["sunspots"], "readout", False)
    assert told in gradsim_cli("show", "sunspots").output


@pytest.mark.parametrize("name", ["clip_norm", "sunspots", "product_norm", "effective_product_norm"])
def test_show_finds_a_name_in_any_family(gradsim_cli, name):
    result = gradsim_cli("show", name)
    assert result.exit_code == 0
    assert result.output.startswith(f"{name} (")


def test_show_offers_the_nearest_name(gradsim_cli):
    result = gradsim_cli("show", "elmn")
    assert result.exit_code == 2
    assert "unknown name 'elmn'; did you mean 'elman'?" in result.output


def test_every_shipped_plugin_can_be_shown(gradsim_cli):
    for classes in registry.catalogue().plugins.values():
        for name in classes:
            assert gradsim_cli("show", name).exit_code == 0, name
