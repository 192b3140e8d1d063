"""`gradsim run`: folders, figures, refusals; whatever goes wrong, nothing is lost."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import xarray as xr

import gradsim
from gradsim import plot
from gradsim.data import folder
from gradsim.data.folder import RunFolder
from gradsim.machine import disk
from gradsim_cells import Elman
from gradsim_tasks import Sunspots

FILES = {"run.json", "manifest.json", "data.zarr"} | {
    f"{figure}.{kind}" for figure in ("gain_by_lag", "gain_heat_map", "adjoint") for kind in ("png", "svg")
}
SMALL = ("--set", "task.length=30", "--set", "cell.hidden_size=4")


def small():
    """An experiment file of two short runs."""
    text = """
        record = ["product_norm", "adjoint_norm"]
        [task]
        name = "sunspots"
        length = 20
        [cell]
        name = "elman"
        hidden_size = 3
        [[compare]]
        label = "strong"
        cell = { recurrent_scale = 3.0 }
    """
    Path("small.toml").write_text(text)
    return "small.toml"


@pytest.fixture
def no_figures(monkeypatch):
    monkeypatch.setattr(plot, "save", lambda figure, stem: None)


def by_lag(ds, lag):
    """The gains of all pairs with this lag, of a state of 32 components."""
    gain = ds["product_norm"].isel(batch=0) / 32**0.5
    sources = gain["source"][: gain.sizes["time"] - lag]
    return gain.sel(source=sources, time=sources + lag)


def status(folder):
    return json.loads((Path(folder) / "run.json").read_text())["status"]


def test_the_default_experiment_shows_an_lstm_that_remembers_and_an_elman_network_that_does_not(gradsim_cli):
    result = gradsim_cli("run", "--set", "task.length=80")
    assert result.exit_code == 0
    assert {p.name for p in Path("runs/sunspots").iterdir()} == FILES
    assert {p.name for p in Path("runs/sunspots-elman").iterdir()} == FILES
    lstm, elman = (xr.open_zarr(f"runs/{n}/data.zarr") for n in ("sunspots", "sunspots-elman"))
    far = {"time": 80, "source": 0, "batch": 0}
    assert float(lstm["product_norm"].sel(far)) > 1e-6
    assert float(elman["product_norm"].sel(far)) < 1e-8
    for name in ("product_norm", "adjoint_norm", "adjoint", "gradient_norm", "loss", "lyapunov"):
        assert name in lstm
    assert "lstm: saved in runs/sunspots\n" in result.output
    assert "elman: saved in runs/sunspots-elman\n" in result.output
    elman_row = next(line.split() for line in result.output.splitlines() if line.startswith(" elman "))
    assert float(elman_row[2]) == pytest.approx(float(by_lag(elman, 10).median()), rel=0.05)


@pytest.mark.usefixtures("no_figures")
def test_the_same_run_in_python_gives_the_same_numbers(gradsim_cli):
    gradsim_cli("run", small(), "--seed", 5)
    ds = gradsim.simulate(Elman(hidden_size=3), task=Sunspots(length=20), rng=5, record=["product_norm"])
    saved = gradsim.open_run("runs/small")
    xr.testing.assert_equal(saved["product_norm"].compute(), ds["product_norm"])


@pytest.mark.usefixtures("no_figures")
def test_a_file_names_the_folder_unless_it_gives_a_name(gradsim_cli):
    assert gradsim_cli("run", small()).exit_code == 0
    assert status("runs/small") == status("runs/small-strong") == "complete"
    assert gradsim_cli("run", small(), "--set", "name=other").exit_code == 0
    assert status("runs/other") == "complete"


@pytest.mark.usefixtures("no_figures")
def test_another_cell_leaves_out_the_comparison_of_the_default_experiment(gradsim_cli):
    result = gradsim_cli("run", "--cell", "min_gru", *SMALL, "--mitigation", "clip_norm")
    assert result.exit_code == 0
    assert [p.name for p in Path("runs").iterdir()] == ["sunspots-min_gru"]
    ds = gradsim.open_run("runs/sunspots-min_gru")
    assert ds.attrs["mitigations"] == "gradient: clip_norm"
    assert "effective_gradient_norm" in ds


@pytest.mark.usefixtures("no_figures")
def test_out_is_the_folder_of_the_main_run(gradsim_cli):
    assert gradsim_cli("run", small(), "--out", "here").exit_code == 0
    assert status("here") == status("here-strong") == "complete"


@pytest.mark.usefixtures("no_figures")
def test_out_may_be_the_current_folder(gradsim_cli, monkeypatch):
    Path("inside").mkdir()
    file = Path(small()).absolute()
    monkeypatch.chdir("inside")
    assert gradsim_cli("run", file, "--out", ".").exit_code == 0
    assert status(".") == status("../inside-strong") == "complete"


def test_a_figure_whose_variable_was_not_recorded_is_left_out(gradsim_cli):
    result = gradsim_cli("run", "--cell", "elman", *SMALL, "--record", "adjoint_norm")
    assert result.exit_code == 0
    assert "No figure runs/sunspots-elman/gain_by_lag: the dataset has no product_norm" in result.output
    assert Path("runs/sunspots-elman/adjoint.png").is_file()
    assert not Path("runs/sunspots-elman/gain_by_lag.png").exists()


def test_a_dry_run_writes_nothing(gradsim_cli):
    result = gradsim_cli("run", "--dry-run")
    assert result.exit_code == 0
    assert "Would write runs/sunspots, runs/sunspots-elman" in result.output
    assert not Path("runs").exists()


@pytest.mark.usefixtures("no_figures")
def test_a_run_that_is_there_is_kept_unless_forced(gradsim_cli):
    gradsim_cli("run", small())
    before = Path("runs/small/run.json").read_bytes()
    result = gradsim_cli("run", small(), "--seed", 1)
    assert result.exit_code == 1
    assert "runs/small holds a run already; pass force=True (--force) to replace it" in result.output
    assert Path("runs/small/run.json").read_bytes() == before
    assert gradsim_cli("run", small(), "--seed", 1, "--force").exit_code == 0
    assert Path("runs/small/run.json").read_bytes() != before


def test_every_folder_is_asked_before_the_first_is_made(gradsim_cli):
    Path("runs").mkdir()
    Path("runs/small-strong").write_text("mine")
    result = gradsim_cli("run", small(), "--force")
    assert result.exit_code == 1
    assert "runs/small-strong exists and is not a run folder" in result.output
    assert [p.name for p in Path("runs").iterdir()] == ["small-strong"]


@pytest.mark.usefixtures("no_figures")
def test_an_incomplete_run_is_kept_unless_forced(gradsim_cli):
    RunFolder(Path("runs/small"), {}).create(force=False)
    result = gradsim_cli("run", small())
    assert result.exit_code == 3
    assert "runs/small holds a run that is not complete: its status is 'running' after 0%" in result.output
    assert gradsim_cli("run", small(), "--force").exit_code == 0


def test_a_folder_that_is_something_else_is_never_replaced(gradsim_cli):
    Path("mine").mkdir()
    Path("mine/thesis.tex").write_text("...")
    result = gradsim_cli("run", small(), "--out", "mine", "--force")
    assert result.exit_code == 1
    assert "mine exists and is not a run folder" in result.output
    result = gradsim_cli("run", small(), "--out", "mine/thesis.tex/run")
    assert result.exit_code == 1
    assert "thesis.tex is a file" in result.output


def test_a_folder_that_cannot_be_written_is_refused(gradsim_cli, monkeypatch):
    # Root may write anywhere, so a folder without permission would prove nothing.
    monkeypatch.setattr(folder, "os", SimpleNamespace(access=lambda path, mode: False, W_OK=2, X_OK=1))
    result = gradsim_cli("run", small())
    assert result.exit_code == 1
    assert "is not writable; choose another with store= or --out" in result.output
    assert not Path("runs").exists()


def test_a_run_that_is_too_large_is_refused_before_anything_is_made(gradsim_cli):
    large = ("--set", "task.length=200000", "--set", "cell.hidden_size=300", "--record", "jacobian_product")
    result = gradsim_cli("run", "--task", "adding", *large)
    assert result.exit_code == 1
    assert "step Jacobians alone takes 576 GB" in result.output
    assert not Path("runs").exists()


def test_two_runs_that_fit_the_disk_only_one_by_one_are_refused(gradsim_cli, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=9_000))
    result = gradsim_cli("run", small())
    assert result.exit_code == 1
    assert re.search(r"these runs write [\d.]+ kB together and 9 kB of disk is free", result.output)
    assert not Path("runs").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere.toml",), "does not exist"),
        (("--cell", "lsmt"), "did you mean 'lstm'?"),
        (
            ("--set", "cell.recurent_scale=1"),
            "unknown parameter of lstm 'recurent_scale'; did you mean 'recurrent_scale'?",
        ),
        (("--set", "gain"), "--set gain: should be KEY=VALUE"),
        (("--dtype", "float16"), "dtype: should be 'float32' or 'float64'"),
        (("--threads", "0"), "0 is not in the range"),
        (("--fast",), "No such option"),
        (
            ("--cell", "min_gru", "--mitigation", "orthogonal_init"),
            "min_gru has no weight matrix for the state",
        ),
    ],
)
def test_what_is_asked_wrongly_ends_with_2_and_writes_nothing(gradsim_cli, arguments, message):
    result = gradsim_cli("run", *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("runs").exists()


def test_every_mistake_of_a_command_line_is_told_at_once(gradsim_cli):
    wrong = ("gain", "compare.gru.seed=1", "cell.recurent_scale=1", "seed=x")
    result = gradsim_cli("run", *(word for change in wrong for word in ("--set", change)))
    assert result.exit_code == 2
    first, *lines = result.stderr.splitlines()
    assert first == "Error: the command line: 4 mistakes"
    assert [line.split(":")[0] for line in lines] == [
        "  --set gain",
        "  --set compare.gru.seed=1",
        "  seed",
        "  cell.recurent_scale",
    ]
    assert "did you mean 'recurrent_scale'?" in lines[-1]


def test_a_run_that_fails_says_so_without_a_traceback(gradsim_cli):
    exploding = ("--set", "cell.activation=relu", "--set", "cell.recurrent_scale=1e300")
    result = gradsim_cli("run", "--cell", "elman", *SMALL, *exploding)
    assert result.exit_code == 1
    assert result.output.startswith("Error: ")
    assert "Traceback" not in result.output
    assert status("runs/sunspots-elman") == "failed"
