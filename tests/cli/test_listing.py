"""`gradsim list`: which plugins there are."""

from __future__ import annotations

import warnings

import pytest

from gradsim.contracts import registry
from gradsim.errors import PluginWarning


def row(output, name):
    """The table row that starts with this name, with single spaces."""
    rows = (" ".join(line.split()) for line in output.splitlines())
    return next(text for text in rows if text.startswith(f"{name} "))


def test_list_shows_every_plugin_with_its_summary_and_distribution(gradsim_cli):
    result = gradsim_cli("list")
    assert result.exit_code == 0
    for family, classes in registry.catalogue().plugins.items():
        assert family.capitalize() in result.output
        for name in classes:
            assert name in result.output
    assert "h_t = phi(W x_t + U h_{t-1} + b)." in result.output
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
    assert "effective_gradient_bias" not in result.output  # of the exact and the effective gradient at once


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


def test_the_long_list_of_cells(gradsim_cli):
    result = gradsim_cli("list", "cells", "--long")
    assert result.exit_code == 0
    assert row(result.output, "lstm").startswith("lstm h 32, c 32 1 x 64 analytic 4352 ")
    assert row(result.output, "lru").startswith("lru re 32, im 32 32 x 2 analytic 160 ")
    assert row(result.output, "zoneout").startswith("zoneout h 32, c 32 1 x 64 free 4352 ")
    assert row(result.output, "lif").startswith("lif z 32, v 32 1 x 64 surrogate 1088 - - J t a Neftci")
    assert "Elman (1990), Finding structure in time" in result.output
    assert "failed" not in result.output


@pytest.mark.parametrize("family", [(), ("tasks",)])
def test_a_long_list_is_of_cells_only(family, gradsim_cli):
    result = gradsim_cli("list", *family, "--long")
    assert result.exit_code == 2
    assert "gradsim list cells --long" in result.output
