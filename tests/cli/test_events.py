"""What happens in a training, as lines for machines."""

from __future__ import annotations

import json
import subprocess
import sys

from gradsim.cli import events
from gradsim.cli.events import Events


def test_updates_are_told_once_a_second_and_the_last_one_always(monkeypatch, capsys):
    now = iter([10.0, 10.0, 10.4, 10.9, 11.1, 11.1, 11.5])
    monkeypatch.setattr(events.time, "monotonic", lambda: next(now))
    tell = Events("mine")
    for update in range(1, 6):
        tell({"event": "update", "update": update, "loss": float("nan")})
    tell.end("end", {})
    told = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [event.get("update") for event in told] == [1, 4, 5, None]
    assert told[0] == {"event": "update", "run": "mine", "update": 1, "loss": None}


def test_a_training_goes_on_when_nobody_reads_its_events(tmp_path):
    sizes = ("--set", "updates=5", "--set", "cell.hidden_size=3", "--set", "task.length=20")
    arguments = ("train", "--json", *sizes, "--threads", "1")
    with subprocess.Popen(
        [sys.executable, "-m", "gradsim", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
    ) as process:
        assert json.loads(process.stdout.readline())["event"] == "start"
        process.stdout.close()
        told = process.stderr.read()
    assert process.returncode == 0, told
    assert "nobody reads what happens any more; the training goes on" in told
    assert json.loads((tmp_path / "runs" / "adding" / "run.json").read_text())["status"] == "complete"
