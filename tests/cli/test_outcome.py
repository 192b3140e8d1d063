"""How a command ends: exit codes, warnings and errors as plain lines."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

from gradsim.errors import OutOfRangeWarning
from gradsim.run.prepared import Simulation


def test_errors_go_to_stderr_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "gradsim", "show", "nothing_like_it"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: unknown name 'nothing_like_it'")
    assert "Traceback" not in done.stderr


def status(folder):
    return json.loads((Path(folder) / "run.json").read_text())["status"]


def test_warnings_are_shown_as_plain_lines(gradsim_cli, monkeypatch):
    def run(self, *arguments, **more):
        warnings.warn("jacobian_product: 3 of 4 values leave the range", OutOfRangeWarning, stacklevel=2)
        raise KeyboardInterrupt

    monkeypatch.setattr(Simulation, "run", run)
    result = gradsim_cli("run")
    assert result.exit_code == 130
    assert result.output.splitlines()[0] == "Warning: jacobian_product: 3 of 4 values leave the range"
    assert result.output.splitlines()[-1].startswith("Interrupted. To run it again: gradsim")


def test_ctrl_c_leaves_an_interrupted_run_and_says_how_to_run_it_again(tmp_path):
    flags = ["--cell", "lstm", "--task", "adding", "--set", "task.length=5000", "--out", "long"]
    process = subprocess.Popen(
        [sys.executable, "-m", "gradsim", "run", *flags], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    while not (tmp_path / "long" / "data.partial.zarr").exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert status(tmp_path / "long") == "interrupted"
    # The library that writes may have a word to say about what it was doing.
    again = f"Interrupted. To run it again: gradsim run {' '.join(flags)} --force"
    assert again in errors.splitlines()
