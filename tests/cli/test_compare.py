"""`gradsim compare`: one folder, one table with a row for each cell, and what is asked wrongly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import gradsim
from gradsim import analysis, plot
from gradsim.cli import output
from gradsim_cells import GRU, Elman
from gradsim_mitigations import RTRL, ClipNorm, Truncate
from gradsim_tasks import Sunspots

SMALL = ("--task", "sunspots", "--set", "task.length=20", "--record", "product_norm", "--seeds", 2)


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(plot, "save", lambda figure, stem: None)


def test_cells_come_into_one_folder_with_a_figure(gradsim_cli):
    result = gradsim_cli("compare", "--cell", "elman,gru", "--match", "params=60", *SMALL)
    assert result.exit_code == 0
    folder = Path("runs/sunspots-elman-gru")
    assert {p.name for p in folder.iterdir()} == {
        "run.json",
        "manifest.json",
        "data.zarr",
        "gain_by_lag.png",
        "gain_by_lag.svg",
    }
    cells = {"elman": Elman(), "gru": GRU()}
    how = {"pairs": gradsim.Pairs(max_lag=100), "record": ["product_norm"]}
    ds = gradsim.compare(cells, task=Sunspots(length=20), match="params", budget=60, seeds=2, **how)
    xr.testing.assert_equal(gradsim.open_run(folder).load(), ds)
    row = next(line.split() for line in result.output.splitlines() if line.startswith(" gru "))
    median = analysis.gain_by_lag(ds, apart=("cell",))["median"].sel(cell="gru", lag=10)
    assert float(row[2]) == pytest.approx(float(10**median), rel=0.05)
    assert [int(n) for n in row[-3:]] == [
        int(ds[n].sel(cell="gru")) for n in ("hidden_size", "state_size", "param_count")
    ]


@pytest.mark.usefixtures("no_figures")
def test_cells_are_as_they_are_given_unless_they_are_matched(gradsim_cli):
    gradsim_cli("compare", "--cell", "elman", "--cell", "gru", *SMALL, "--set", "cells.gru.hidden_size=5")
    ds = gradsim.open_run("runs/sunspots-elman-gru")
    assert list(ds.hidden_size.values) == [32, 5]
    assert "match" not in ds.coords


def test_the_default_compares_three_cells_of_one_size(gradsim_cli):
    result = gradsim_cli("compare", "--dry-run")
    assert result.exit_code == 0
    rows = {line.split()[0]: line.split() for line in result.output.splitlines() if line.split()}
    for label in ("lstm", "gru", "elman"):
        assert rows[label][6:8] == ["params", "4352"]
        assert 4100 < int(rows[label][3]) <= 4352
    assert "Would write runs/sunspots-cells" in result.output
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_figures")
def test_an_experiment_file(gradsim_cli):
    text = """
        seeds = [4, 0]
        match = "state"
        budget = 6
        record = ["product_norm"]
        [task]
        name = "sunspots"
        length = 20
        [[cells]]
        name = "elman"
        [[cells]]
        name = "elman"
        label = "strong"
        recurrent_scale = 2.0
        [[compare]]
        label = "longer"
        task = { length = 25 }
    """
    Path("two.toml").write_text(text)
    result = gradsim_cli("compare", "two.toml")
    assert result.exit_code == 0
    ds = gradsim.open_run("runs/two")
    assert (list(ds.cell.values), list(ds.seed.values)) == (["elman", "strong"], [4, 0])
    assert list(ds.state_size.values) == [6, 6]
    strong = gradsim.simulate(
        Elman(1, 6, recurrent_scale=2.0), task=Sunspots(length=20), rng=4, record=["product_norm"]
    )
    np.testing.assert_array_equal(ds.product_norm.sel(cell="strong", seed=4), strong.product_norm)
    assert gradsim.open_run("runs/two-longer").sizes["time"] == 26
    assert " longer: strong " in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--cell", "elman,gruu"), "cells.1.name: unknown cell 'gruu'; did you mean 'gru'"),
        (("--cell", "elman,elman"), "cells.1: two cells are called 'elman'; give them labels"),
        (("--match", "params=many"), "'many' is not a valid integer"),
        (("--match", "size"), "match: should be 'params' or 'state' (got 'size')"),
        (
            ("--match", "params=9", "--budget", "9"),
            "--match params=9 is a budget already: leave --budget out",
        ),
        (("--match", "state=0"), "budget: should be greater than 0"),
        (("--seeds", "0"), "seeds: should be greater than 0"),
        (("--record", "state"), "sunspots-cells: state of lstm and gru cannot stand side by side"),
        (("--set", "cells.0.label=3"), "cells.0.label: should be a text (got 3)"),
        (("--set", "cells.1.input_size=3"), "cells.1.input_size: should be 1, as the task sunspots has it"),
        (("--set", "cell.name=lru"), "cell: unknown key 'cell'; did you mean 'cells'"),
    ],
)
def test_what_is_asked_wrongly_is_said_before_anything_is_made(gradsim_cli, arguments, message):
    result = gradsim_cli("compare", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("runs").exists()


def test_an_experiment_of_another_kind_is_sent_to_its_command(gradsim_cli):
    Path("cells.toml").write_text('[task]\nname = "adding"\n[[cells]]\nname = "gru"\n')
    result = gradsim_cli("run", "cells.toml")
    assert result.exit_code == 2
    assert "describes a comparison: cells. Use `gradsim compare`" in result.output
    Path("one.toml").write_text('[task]\nname = "adding"\n[cell]\nname = "gru"\n')
    result = gradsim_cli("compare", "one.toml")
    assert "describes no comparison, but a simulation. Use `gradsim run`, or add cells" in result.output


def test_mitigations_come_with_a_table_figures_and_a_csv(gradsim_cli):
    chosen = "truncate,truncate+clip_norm,rtrl"
    result = gradsim_cli(
        *("compare", "--cell", "elman", "--mitigations", chosen, "--task", "sunspots"),
        *(
            "--set",
            "task.length=20",
            "--set",
            "mitigations.truncate.k1=2",
            "--set",
            "mitigations.truncate.k2=4",
        ),
        *("--set", "cells.elman.hidden_size=4", "--seeds", 2),
    )
    assert result.exit_code == 0
    folder = Path("runs/sunspots-elman")
    stems = ("gain_by_lag_of_mitigations", "bias_against_cost")
    files = {f"{stem}.{kind}" for stem in stems for kind in ("png", "svg")}
    assert {p.name for p in folder.iterdir()} == {
        "run.json",
        "manifest.json",
        "data.zarr",
        "effects.csv",
        *files,
    }
    ds = gradsim.open_run(folder).load()
    both = [Truncate(), ClipNorm()]
    how = {"task": Sunspots(length=20), "seeds": 2, "pairs": gradsim.Pairs(max_lag=100)}
    by_label = {"truncate": Truncate(2, 4), "truncate+clip_norm": both, "rtrl": RTRL()}
    expected = gradsim.compare({"elman": Elman(1, 4)}, mitigations=by_label, **how)
    measured = ["forward_seconds", "backward_seconds", "gradient_seconds"]
    xr.testing.assert_equal(ds.drop_vars(measured), expected.drop_vars(measured))
    table = pd.read_csv(folder / "effects.csv").set_index("mitigation")
    bias = analysis.effects(ds).bias.sel(cell="elman")
    np.testing.assert_allclose(table["bias"], bias, rtol=1e-12)
    row = next(line.split() for line in result.output.splitlines() if line.startswith(" elman  truncate "))
    assert float(row[2]) == pytest.approx(float(bias.sel(mitigation="truncate")), rel=0.01)
    assert "there is none, as of the effective products of rtrl" in " ".join(result.output.split())


@pytest.mark.usefixtures("no_figures")
def test_names_of_mitigations_are_never_cut_in_the_table(gradsim_cli, monkeypatch):
    monkeypatch.setattr(output, "_PIPE_WIDTH", 80)
    result = gradsim_cli(
        *("compare", "--cell", "elman", "--task", "sunspots", "--seeds", 1, "--set", "task.length=20"),
        *("--mitigations", "jacobian_penalty,truncate+clip_norm,clip_value+clip_norm+weight_decay"),
    )
    assert result.exit_code == 0
    words = result.output.split()
    for name in ("jacobian_penalty", "truncate+clip_norm", "clip_value+", "clip_norm+", "weight_decay"):
        assert words.count(name) == 2  # what it does, and what it costs


@pytest.mark.usefixtures("no_figures")
def test_choices_of_an_experiment_have_labels_and_an_order(gradsim_cli):
    Path("e.toml").write_text(
        """
        task = { name = "sunspots", length = 20 }
        record = ["effective_gradient_norm"]
        seeds = 1
        cells = [{ name = "elman", hidden_size = 3 }]
        mitigations = [
          { name = "clip_norm", label = "hard", max_norm = 0.01 },
          { label = "both", in_order = [{ name = "clip_value", limit = 0.1 }, { name = "clip_norm" }] },
        ]
        """
    )
    assert gradsim_cli("compare", "e.toml").exit_code == 0
    ds = gradsim.open_run("runs/e")
    assert list(ds.mitigation.values) == ["none", "hard", "both"]
    assert str(ds.phases.values[2]) == "gradient: clip_value > clip_norm"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--mitigations", "clip_nrom"], "did you mean 'clip_norm'"),
        (["--mitigations", "rtrl+truncate"], "rtrl puts a rule in place of the backward pass"),
        (["--mitigations", "clip_norm,clip_norm"], "two choices are called 'clip_norm'; give them labels"),
        (["--mitigations", "clip_norm", "--set", "mitigations.0.max_norm=-1"], "max_norm"),
        (["--replicates", "3"], "replicates differ in what mitigations draw"),
    ],
)
def test_choices_that_make_no_sense_are_refused(gradsim_cli, arguments, message):
    result = gradsim_cli("compare", "--cell", "elman", *SMALL, *arguments)
    assert result.exit_code in (1, 2)
    assert message in result.output
    assert not Path("runs").exists()
