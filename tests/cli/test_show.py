"""`gradsim show`: what a plugin is."""

from __future__ import annotations

import pytest

from gradsim.contracts import registry


def row(output, name):
    """The table row that starts with this name, with single spaces."""
    rows = (" ".join(line.split()) for line in output.splitlines())
    return next(text for text in rows if text.startswith(f"{name} "))


def test_show_gives_docstring_parameters_and_reference(gradsim_cli):
    result = gradsim_cli("show", "elman")
    assert result.exit_code == 0
    assert "h_t = phi(W x_t + U h_{t-1} + b)." in result.output
    assert "Elman (1990), Finding structure in time." in result.output
    assert row(result.output, "hidden_size") == "hidden_size int, > 0 32"
    assert row(result.output, "activation") == "activation one of 'tanh', 'relu', 'logistic' 'tanh'"
    assert "list of str or none" in gradsim_cli("show", "orthogonal_init").output


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
