"""`gradsim resume`: what was interrupted ends as if it never had been."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest
import xarray as xr
from helpers import reconfigured

import gradsim
from gradsim import plot
from gradsim.cli.events import Events
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import Adam
from gradsim_schedules import Cosine, Warmup
from gradsim_tasks import Adding


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    drawn = []
    monkeypatch.setattr(plot, "save", lambda figure, stem: drawn.append(stem.name))
    return drawn


def train(**arguments):
    """A training with a bit of everything."""
    setting = {
        "optimizer": Adam(learning_rate=0.01, schedule=Warmup(length=2, after=Cosine())),
        "updates": 8,
        "batch": 2,
        "mitigations": [ClipNorm(1.0, where="adjoint"), ClipNorm()],
        "record": {"every": 3, "recorders": ["product_norm", "lyapunov"], "pairs": {"max_lag": 5}},
        "validate": {"every": 2, "sequences": 5},
        "stop": {"patience": 4},
        "rng": 3,
    }
    return gradsim.train(Elman(input_size=2, hidden_size=3), Adding(length=20), **setting | arguments)


def interrupted(folder, at=5):
    """The same training, until Ctrl-C is pressed at an update."""

    def press(event):
        if event["event"] == "update" and event["update"] == at:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        train(store=folder, report=press)
    return folder


def record(folder):
    return json.loads((Path(folder) / "run.json").read_text())


def test_a_resumed_training_is_that_which_was_never_interrupted(gradsim_cli, no_figures):
    result = gradsim_cli("resume", interrupted("mine"), "--threads", 1)
    assert result.exit_code == 0, result.output
    assert record("mine")["status"] == "complete"
    assert "mine: ended after all updates; saved in mine" in result.output
    assert no_figures == ["training_overview", "gain_by_lag_over_updates", "gain_heat_maps"]
    xr.testing.assert_identical(gradsim.open_run("mine").compute(), train())


def test_resume_tells_machines_what_happens(gradsim_cli):
    result = gradsim_cli("resume", interrupted("mine"), "--json")
    told = [json.loads(line) for line in result.stdout.splitlines()]
    assert [told[0]["event"], told[1]["event"], told[-1]["event"]] == ["start", "update", "end"]
    assert told[1]["update"] == 6
    assert told[-1]["validation_loss"] == float(train()["validation_loss"].min())


def test_resume_may_be_interrupted_again(gradsim_cli, monkeypatch):
    interrupted("mine", at=2)
    with monkeypatch.context() as patch:
        patch.setattr(Events, "__call__", lambda self, event: signal.raise_signal(signal.SIGINT))
        result = gradsim_cli("resume", "mine", "--json")
    assert result.exit_code == 130
    assert result.stderr.endswith("Interrupted. To go on: gradsim resume mine\n")


def test_a_complete_run_is_left_as_it_is(gradsim_cli, no_figures):
    train(store="mine")
    before = Path("mine/run.json").read_bytes()
    result = gradsim_cli("resume", "mine")
    assert result.exit_code == 0
    assert result.stderr == "mine is complete: there is nothing to go on with\n"
    assert Path("mine/run.json").read_bytes() == before
    assert not no_figures


def test_a_run_that_was_begun_otherwise_is_refused_unless_that_is_allowed(gradsim_cli):
    reconfigured(interrupted("mine"), versions={"numpy": "1.0"})
    result = gradsim_cli("resume", "mine")
    assert result.exit_code == 2
    assert "versions.numpy: '1.0' is now" in result.output
    assert "--allow-changed" in result.output
    assert gradsim_cli("resume", "mine", "--allow-changed").exit_code == 0
    assert record("mine")["status"] == "complete"


def test_what_is_no_training_is_refused(gradsim_cli):
    gradsim.simulate(Elman(input_size=2, hidden_size=2), task=Adding(length=20), store="simulation")
    Path("empty").mkdir()
    for folder, message in (
        ("simulation", "simulation holds a simulation, not a training"),
        ("empty", "empty is not a run folder: it has no run.json"),
        ("nowhere", "nowhere is not a run folder: it has no run.json"),
    ):
        result = gradsim_cli("resume", folder)
        assert result.exit_code == 1
        assert message in result.output


def test_a_cell_that_is_not_installed_says_what_to_do(gradsim_cli):
    reconfigured(interrupted("mine"), cell={"name": "of_a_script"})
    result = gradsim_cli("resume", "mine")
    assert result.exit_code == 2
    assert "unknown cell 'of_a_script'" in result.output
    assert "run the script again with resume=True" in result.output
