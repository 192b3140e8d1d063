"""Discovery: one bad plugin takes nothing else down; installing one changes no number."""

from __future__ import annotations

import dataclasses
import json
import sys
import types
import warnings
from importlib import metadata

import pytest

import gradsim
import gradsim_cells
from gradsim.contracts import registry
from gradsim.contracts.plugin import Plugin
from gradsim.contracts.registry import Catalogue
from gradsim.errors import InputError, PluginError, PluginWarning, UnknownNameError
from gradsim_cells import Elman


class Distribution(metadata.Distribution):
    def __init__(self, name):
        self.text = f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"

    def read_text(self, filename):
        return self.text if filename == "METADATA" else None

    def locate_file(self, path):
        raise NotImplementedError


def entry_point(name, distribution, **functions):
    """An entry point of a module made of these functions."""
    module = types.ModuleType(f"fake_{name}")
    for key, function in functions.items():
        setattr(module, key, gradsim.hookimpl(function))
    sys.modules[module.__name__] = module
    return metadata.EntryPoint(name, module.__name__, "gradsim")._for(Distribution(distribution))


def shipped():
    return list(metadata.entry_points(group="gradsim"))


class Mine(Elman):
    name = "mine"


class Impostor(Elman):
    name = "elman"


class Nameless(Elman):
    name = None


def test_all_shipped_plugins_are_found():
    found = registry.catalogue()
    assert found.problems == []
    cells = [getattr(gradsim_cells, name) for name in gradsim_cells.__all__]
    assert set(found.plugins["cells"]) == {cell.name for cell in cells}
    assert set(found.plugins["tasks"]) == {
        "adding",
        "copy_memory",
        "csv",
        "delayed_xor",
        "digits",
        "el_nino",
        "flip_flop",
        "japanese_vowels",
        "lorenz",
        "mackey_glass",
        "noiseless_memorisation",
        "npz",
        "parity",
        "random_permutation",
        "sunspots",
        "temporal_order",
        "text",
    }
    assert found.distributions["cells/lstm"].startswith("gradsim ")


def test_a_plugin_of_another_distribution_is_found():
    point = entry_point("mine", "gradsim-mine", gradsim_register_cells=lambda: [Mine])
    found = Catalogue([*shipped(), point])
    assert found.plugins["cells"]["mine"] is Mine
    assert found.distributions["cells/mine"] == "gradsim-mine 1.0"


def boom():
    raise RuntimeError("no GPU today")


@pytest.mark.parametrize(
    ("functions", "message"),
    [
        ({"gradsim_register_cells": boom}, "RuntimeError: no GPU today"),
        ({"gradsim_register_cell": lambda: []}, "unknown hook 'gradsim_register_cell'"),
        ({"gradsim_register_cells": lambda: [Impostor]}, "Impostor names itself 'elman', but gradsim"),
        ({"gradsim_register_cells": lambda: [Nameless]}, "has no name"),
        ({"gradsim_register_cells": lambda: None}, "should return a list"),
        ({"gradsim_register_cells": lambda: [Mine(1)]}, "should return classes"),
    ],
)
def test_a_broken_plugin_is_reported_by_its_distribution(functions, message):
    found = Catalogue([entry_point("bad", "gradsim-bad", **functions), *shipped()])
    (problem,) = found.problems
    assert problem.startswith("gradsim-bad 1.0: ")
    assert message in problem
    assert found.plugins["cells"]["elman"] is Elman
    assert found.plugins["cells"] == Catalogue(shipped()).plugins["cells"]


def test_a_module_that_does_not_import_is_reported():
    point = metadata.EntryPoint("gone", "no_such_module", "gradsim")._for(Distribution("gradsim-gone"))
    found = Catalogue([point, *shipped()])
    assert found.problems == ["gradsim-gone 1.0: ModuleNotFoundError: No module named 'no_such_module'"]


@pytest.fixture
def installed(monkeypatch):
    """Pretend that these entry points are installed."""

    def pretend(points):
        monkeypatch.setattr(registry.metadata, "entry_points", lambda group: points)
        registry.catalogue.cache_clear()

    yield pretend
    monkeypatch.undo()
    registry.catalogue.cache_clear()


def test_problems_are_warnings(installed):
    installed([entry_point("bad", "gradsim-bad", gradsim_register_cells=boom), *shipped()])
    with pytest.warns(PluginWarning, match=r"gradsim-bad 1\.0: RuntimeError"):
        registry.catalogue()


def test_the_environment_limits_what_loads(installed, monkeypatch):
    bad = entry_point("bad", "gradsim-bad", gradsim_register_cells=boom)
    monkeypatch.setenv("GRADSIM_LOAD_PLUGINS", "gradsim")
    installed([bad, *shipped()])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "elman" in registry.catalogue().plugins["cells"]
    monkeypatch.setenv("GRADSIM_LOAD_PLUGINS", "cells, recorders")
    registry.catalogue.cache_clear()
    assert registry.catalogue().plugins["tasks"] == {}
    monkeypatch.setenv("GRADSIM_LOAD_PLUGINS", "gradsim-bda")
    registry.catalogue.cache_clear()
    with pytest.raises(UnknownNameError, match="did you mean 'gradsim-bad'"):
        registry.catalogue()


def test_unknown_names_offer_the_nearest():
    with pytest.raises(UnknownNameError, match="unknown cell 'lsmt'; did you mean 'lstm'"):
        registry.find("cells", "lsmt")
    with pytest.raises(
        UnknownNameError, match="unknown recorder 'effective_adjont'; did you mean 'effective_adjoint'"
    ):
        registry.recorder("effective_adjont")
    with pytest.raises(UnknownNameError, match="parameter of lstm 'hiden_size'; did you mean 'hidden_size'"):
        registry.build("cells", "lstm", {"hiden_size": 3})
    with pytest.raises(InputError, match=r"lstm\.hidden_size: should be greater than 0"):
        registry.build("cells", "lstm", {"hidden_size": 0})


def has_defaults(cls):
    """Not so where a file has to be named."""
    return all(f.default is not f.default_factory for f in dataclasses.fields(cls))


@pytest.mark.parametrize("family", registry.FAMILIES)
def test_every_plugin_is_rebuilt_from_what_provenance_says_of_it(family):
    for name, cls in registry.catalogue().plugins[family].items():
        if not has_defaults(cls):
            continue
        plugin = cls()
        again = registry.build(family, name, json.loads(json.dumps(plugin.parameters)))
        assert type(again) is cls
        assert again.parameters == plugin.parameters, name


def test_a_class_of_no_family_is_refused():
    with pytest.raises(PluginError, match="Plugin should be a subclass of one of the families: cells, "):
        registry.family_of(Plugin)
