"""`gradsim show`: what a plugin is."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

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
    assert "list of str or none" in gradsim_cli("show", "weight_decay").output


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


PLUGINS = """
from dataclasses import dataclass
from gradsim import Dense, Mitigation, hookimpl

@dataclass(frozen=True, eq=False)
class Sloped(Dense):
    \"\"\"h_t = tanh(slope a_t).\"\"\"

    name = "sloped"
    slope: float = 1.5

    def unit(self, sums, old, xp):
        return xp.tanh(self.slope * sums[0])

@dataclass(frozen=True, eq=False)
class Halving(Mitigation):
    name = "halving"
    share: "Share" = 0.5

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        return {n: self.share * g for n, g in (yield).items()}
"""


def test_show_takes_a_file_as_other_commands_do(gradsim_cli):
    """All plugins in it, or one; what is wrong is told in the same words."""
    Path("own_plugins.py").write_text(PLUGINS.replace('"Share"', "float"))
    result = gradsim_cli("show", "own_plugins.py")
    assert result.exit_code == 0, result.output
    assert result.output.startswith("sloped (cell, from own_plugins.py)\n\nh_t = tanh(slope a_t).\n")
    assert row(result.output, "slope") == "slope float 1.5"
    assert "halving (mitigation, from own_plugins.py)\n\nIt has no docstring." in result.output
    one = gradsim_cli("show", "own_plugins.py:Halving").output
    assert one.startswith("halving (mitigation, from own_plugins.py)")
    for wrong in ("own_plugins.py:Halvin", "nowhere.py"):
        said, shown = (gradsim_cli(*what, wrong) for what in (("run", "--mitigation"), ("show",)))
        assert said.exit_code == shown.exit_code == 2
        assert shown.output.removeprefix("Error: ").strip().partition(".")[0] in said.output
    Path("no_plugins.py").write_text("x = 1")
    assert "no_plugins.py defines no plugin" in gradsim_cli("show", "no_plugins.py").output
    Path("no_type.py").write_text(PLUGINS)
    assert "Halving: an annotation of its fields is no type" in gradsim_cli("show", "no_type.py").output


def test_show_tells_what_is_read_from_a_file(gradsim_cli):
    torch.save(torch.nn.GRU(2, 6).state_dict(), "model.pt")
    result = gradsim_cli("show", "torch:model.pt")
    assert result.output.startswith("gru (cell, from model.pt, by the layout torch)")
    assert row(result.output, "input_size") == "input_size int, > 0 2"
    assert row(result.output, "hidden_size") == "hidden_size int, > 0 6"
    Path("series.csv").write_text("a,b\n1,2\n3,4\n5,7\n")
    result = gradsim_cli("show", "csv:series.csv")
    assert result.output.startswith("csv (task, from gradsim")
    assert row(result.output, "path") == "path str 'series.csv'"
    assert "there is no file nowhere.pt" in gradsim_cli("show", "torch:nowhere.pt").output
    assert "unknown name 'tosch'; did you mean 'torch'?" in gradsim_cli("show", "tosch:model.pt").output
