"""`gradsim train`: folders, figures, the table, lines for machines; whatever goes wrong, nothing is lost."""

from __future__ import annotations

import json
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import xarray as xr

import gradsim
from gradsim import plot
from gradsim.cli.events import Events
from gradsim.data.folder import RunFolder
from gradsim.machine import disk
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import SGD
from gradsim_tasks import Adding

SMALL = """
    updates = 4
    batch = 2
    [task]
    name = "adding"
    length = 20
    [cell]
    name = "elman"
    hidden_size = 3
    [optimizer]
    name = "sgd"
    learning_rate = 0.1
    [[mitigations]]
    name = "clip_norm"
    max_norm = 0.5
"""
RECORDED = """
    [record]
    every = 2
    [validate]
    every = 2
    sequences = 8
"""
COMPARED = """
    [[compare]]
    label = "fast"
    optimizer = { learning_rate = 0.2 }
"""
EXPLODING = """
    [[compare]]
    label = "wild"
    cell = { name = "linear", recurrent_scale = 1e200 }
    mitigations = []
"""


@pytest.fixture(autouse=True)
def quick_figures(monkeypatch):
    """Drawn, but their files are left empty."""

    def save(figure, stem):
        made = [stem.with_name(f"{stem.name}.{kind}") for kind in ("png", "svg")]
        for file in made:
            file.touch()
        return made

    monkeypatch.setattr(plot, "save", save)


def small(*more):
    """An experiment file."""
    Path("small.toml").write_text(SMALL + "".join(more))
    return "small.toml"


def files(folder):
    return {p.name for p in Path(folder).iterdir()}


def figures(*names):
    return {f"{name}.{kind}" for name in names for kind in ("png", "svg")}


def status(folder):
    return json.loads((Path(folder) / "run.json").read_text())["status"]


def row(output, name):
    """The cells of the table row that starts with this name."""
    return next(line.split() for line in output.splitlines() if line.split()[:1] == [name])


def test_a_training_leaves_its_data_and_figures_and_says_what_it_came_to(gradsim_cli):
    result = gradsim_cli("train", small(RECORDED, COMPARED), "--live", 1e-9)
    assert result.exit_code == 0, result.output
    own = figures("training_overview", "gain_by_lag_over_updates", "gain_heat_maps", "live")
    assert files("runs/small-fast") == {"run.json", "manifest.json", "data.zarr"} | own
    assert files("runs/small") == files("runs/small-fast") | figures("loss_curve", "gradient_norm_curve")
    ds = gradsim.open_run("runs/small")
    loss, score = float(ds["validation_loss"][-1]), float(ds["validation_score"][-1])
    found = row(result.output, "elman")
    assert found[1] == "4"
    assert [float(x) for x in found[-2:]] == pytest.approx([loss, score], rel=1e-3)
    baseline = [float(x) for x in row(result.output, "baseline:")[2:]]
    assert baseline == pytest.approx([ds.attrs["baseline_loss"], ds.attrs["baseline_score"]], rel=1e-3)
    assert "elman: ended after all updates; saved in runs/small\n" in result.output


def test_the_same_training_in_python_gives_the_same_numbers(gradsim_cli):
    assert gradsim_cli("train", small(), "--seed", 5).exit_code == 0
    ds = gradsim.train(
        Elman(input_size=2, hidden_size=3),
        Adding(length=20),
        optimizer=SGD(learning_rate=0.1),
        updates=4,
        batch=2,
        mitigations=[ClipNorm(max_norm=0.5)],
        rng=5,
    )
    saved = gradsim.open_run("runs/small").compute()
    xr.testing.assert_identical(saved.drop_attrs(), ds.drop_attrs())


def test_without_a_validation_the_table_has_none(gradsim_cli):
    output = gradsim_cli("train", small()).output
    assert len(row(output, "elman")) == 4  # with updates, horizon and loss


def test_flags_replace_how_long_it_takes_and_the_optimizer(gradsim_cli):
    vowels = ("--task", "japanese_vowels", "--epochs", "1", "--batch", "225")
    result = gradsim_cli("train", small(), "--optimizer", "adam", *vowels)
    assert result.exit_code == 0, result.output
    ds = gradsim.open_run("runs/small")
    assert ds.attrs["optimizer"] == "adam"
    assert ds.sizes["update"] == 1
    assert ds["learning_rate"].item() == 0.001


@pytest.mark.parametrize("arguments", [["--set", "watch=false"], ["--no-watch"]])
def test_every_parameter_can_be_set(gradsim_cli, arguments):
    assert gradsim_cli("train", small(), *arguments).exit_code == 0
    assert "train_loss" not in gradsim.open_run("runs/small")


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(gradsim_cli):
    result = gradsim_cli("train", small(RECORDED, EXPLODING), "--dry-run")
    assert result.exit_code == 0
    # W (3, 3), U (3, 2), b (3), and the readout from 3 units to 1
    assert "small: elman on adding, 20 steps, batch 2, 22 parameters" in result.output
    assert re.search(r"^4 updates, 3 probes, 3 validations: about \d+ s$", result.output, re.MULTILINE)
    rows = [" ".join(line.split()) for line in result.output.splitlines()]
    # 3 x 21 x 21 float64
    assert "product_norm (probe_update 3, time 21, source 21, batch 1) float64 10.6 kB" in rows
    assert "4 updates, 3 probes, 3 validations: time not known, because the first updates failed" in (
        result.output
    )
    assert "Would write runs/small, runs/small-wild" in result.output
    assert not Path("runs").exists()


def test_lines_for_machines_are_all_there_is_on_stdout(gradsim_cli):
    result = gradsim_cli("train", small(RECORDED), "--json", "--checkpoint-seconds", 0)
    assert result.exit_code == 0
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert all(event["run"] == "elman" for event in told)
    assert told[0] == {
        "event": "start",
        "run": "elman",
        "folder": "runs/small",
        "updates": 4,
        "parameters": 22,
    }
    kinds = [event["event"] for event in told]
    assert kinds.count("probe") == kinds.count("validation") == 3
    assert "checkpoint" in kinds
    last = [event for event in told if event["event"] == "update"][-1]
    assert last["update"] == 4
    ds = gradsim.open_run("runs/small")
    end = told[-1]
    assert end["validation_loss"] == float(ds["validation_loss"][-1])
    assert end["loss"] == float(ds["train_loss"][-1]) == last["loss"]
    assert (end["event"], end["ended"], end["folder"]) == ("end", "after all updates", "runs/small")


def test_a_run_that_diverges_does_not_keep_others_from_being_trained(gradsim_cli):
    result = gradsim_cli("train", small(EXPLODING, COMPARED))
    assert result.exit_code == 1
    assert "Error: small-wild: update 1: " in result.stderr
    assert [status(f"runs/small{end}") for end in ("", "-wild", "-fast")] == [
        "complete",
        "failed",
        "complete",
    ]
    assert "fast: ended after all updates" in result.stdout


def test_a_run_that_diverges_is_told_to_machines(gradsim_cli):
    result = gradsim_cli("train", small(EXPLODING), "--json")
    assert result.exit_code == 1
    last = json.loads(result.stdout.splitlines()[-1])
    assert (last["event"], last["run"], last["folder"]) == ("diverged", "wild", "runs/small-wild")
    assert last["message"].startswith("update 1: ")


def test_a_run_that_is_there_is_kept_unless_forced(gradsim_cli):
    gradsim_cli("train", small())
    before = Path("runs/small/run.json").read_bytes()
    result = gradsim_cli("train", small(), "--seed", 1)
    assert result.exit_code == 1
    assert "runs/small holds a run already" in result.output
    assert Path("runs/small/run.json").read_bytes() == before
    assert gradsim_cli("train", small(), "--seed", 1, "--force").exit_code == 0
    assert Path("runs/small/run.json").read_bytes() != before


@pytest.fixture
def interrupted(monkeypatch):
    """Press Ctrl-C at an update; only with --json, and once."""
    tell, pressed = Events.__call__, []

    def call(self, event):
        tell(self, event)
        if event["event"] == "update" and event["update"] == 3 and not pressed:
            pressed.append(True)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(Events, "__call__", call)


@pytest.mark.usefixtures("interrupted")
def test_what_was_interrupted_goes_on_with_resume(gradsim_cli, monkeypatch):
    arguments = ["train", small(COMPARED), "--json"]
    monkeypatch.setattr(sys, "argv", ["gradsim", *arguments, "--force"])
    result = gradsim_cli(*arguments, "--force")
    assert result.exit_code == 130
    both = "gradsim resume runs/small; with all runs: gradsim train small.toml --json --resume"
    assert f"Interrupted. To go on: {both}\n" in result.stderr
    assert status("runs/small") == "interrupted"
    refused = gradsim_cli(*arguments)
    assert refused.exit_code == 3
    assert "go on with `gradsim resume runs/small`" in refused.output
    assert gradsim_cli(*arguments, "--resume").exit_code == 0
    assert status("runs/small") == status("runs/small-fast") == "complete"
    before = Path("runs/small/run.json").read_bytes()
    assert gradsim_cli(*arguments, "--resume").exit_code == 0
    assert Path("runs/small/run.json").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--optimizer", "adm"), "optimizer.name: unknown optimizer 'adm'; did you mean 'adam'?"),
        (("--set", "optimizer.learning_rate=-1"), "optimizer.learning_rate: should be greater than 0"),
        (("--set", "optimizer.schedule=cosin"), "optimizer.schedule.name: unknown schedule 'cosin'; did you"),
        (
            ("--task", "japanese_vowels", "--batch", "1000"),
            "batch should be at most 225, the number of train",
        ),
        (
            ("--task", "sunspots", "--set", "task.length=308", "--set", "validate.every=1", "--batch", "1"),
            "no part 'validation', only train; leave it out, or let the task keep sequences for it (it has ",
        ),
        (("--epochs", "3"), "the task adding draws sequences without end; give updates instead"),
        (("--updates", "0"), "updates: should be greater than 0 (got 0)"),
        (("--set", "epochs=3"), "epochs: give updates or epochs: exactly one of the two"),
        (("--set", "stop.patience=3"), "stop: patience is judged by validations"),
        (("--resume", "--force"), "--resume goes on with what --force would replace"),
        (("--live", "0"), "0.0 is not in the range"),
    ],
)
def test_what_is_asked_wrongly_ends_with_2_and_writes_nothing(gradsim_cli, arguments, message):
    result = gradsim_cli("train", small(), *arguments)
    assert result.exit_code == 2
    assert message in result.output
    assert not Path("runs").exists()


def test_a_training_is_not_a_simulation(gradsim_cli):
    for command in ("run", "plan"):
        result = gradsim_cli(command, small())
        assert result.exit_code == 2
        assert "small.toml describes a training: optimizer, updates. Use `gradsim train`" in result.output
    Path("plain.toml").write_text('task = { name = "adding" }\ncell = { name = "elman" }\n')
    result = gradsim_cli("train", "plain.toml")
    assert result.exit_code == 2
    assert "plain.toml describes no training, but a simulation. Use `gradsim run`" in result.output
    assert (
        gradsim_cli("train", "plain.toml", "--optimizer", "sgd", "--updates", 1, "--dry-run").exit_code == 0
    )


def test_two_trainings_that_fit_the_disk_only_one_by_one_are_refused(gradsim_cli, monkeypatch):
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=1_000))
    result = gradsim_cli("train", small(COMPARED))
    assert result.exit_code == 1
    assert re.search(r"these runs write [\d.]+ kB together and 1 kB of disk is free", result.output)
    assert not Path("runs").exists()


def test_an_incomplete_simulation_is_not_taken_for_a_training(gradsim_cli):
    RunFolder(Path("runs/small"), {}).create(force=False)
    result = gradsim_cli("train", small())
    assert result.exit_code == 3
    assert "resume" not in result.output
