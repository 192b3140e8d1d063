"""Commands in surroundings that few people have, each in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from drawing import toml
from ground import OWN, SMALL, TRAINED
from judging import CODES, SECONDS

ASCII = "PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 LC_ALL=C"
GONE = "mkdir gone; cd gone; rmdir ../gone;"

QUICK = {
    "stdout is closed": ("gradsim list >&-", 0, ""),
    "stdout and stderr are closed": ("gradsim show nothing >&- 2>&-", 2, ""),
    "stdout is full": ("gradsim list >/dev/full", 1, "Error: [Errno 28] No space left on device"),
    "nobody reads on": ("gradsim list | true; exit ${PIPESTATUS[0]}", (0, 1), ""),
    "stdin is closed": ("gradsim list <&-", 0, "elman"),
    "the folder is gone": (f"{GONE} gradsim run --cell elman", 1, "the current folder has been deleted"),
    "the folder is gone and named": (f"{GONE} gradsim plan --task csv:x", 2, "it cannot be read"),
    "out is under a file": ("gradsim run small.toml --out /dev/null/x", 1, "/dev/null is a file"),
    "out cannot be made": ("gradsim run small.toml --out /proc/x --dry-run", 1, "0 B of disk is free"),
    "a package cannot be made": ("gradsim new cell xyz --dir /proc", 1, "choose another --dir"),
    "few characters": (f"{ASCII} gradsim show lstm", 0, "forget_bias"),
    "no UTF-8": ("gradsim show $'\\xff'", 2, "unknown name '\\udcff'"),
    "no width": ("COLUMNS=1 gradsim train --help", 0, "--live"),
    "an odd width": ("COLUMNS=-5x gradsim list", 0, "elman"),
    "no colour": ("NO_COLOR=1 TERM=dumb gradsim list", 0, "elman"),
    "no docstrings": ("PYTHONOPTIMIZE=2 gradsim show lstm", 0, "forget_bias"),
    "plugins that are none": ("GRADSIM_LOAD_PLUGINS=nope gradsim list", 2, "GRADSIM_LOAD_PLUGINS 'nope'"),
}
"""What is the case: a command, how it may end, and what it says."""

SLOW = {
    "a run to a closed stdout": ("gradsim run small.toml >&-", 0, ""),
    "a training to a closed stdout": ("gradsim train trained.toml --json >&- 2>&-", 0, ""),
    "a training to a full one": ("gradsim train trained.toml --json >/dev/full", 1, "No space left"),
    "one event": ("gradsim train trained.toml --json | head -1", 0, '{"event": "start"'),
    "no event": ("gradsim train trained.toml --json | true; exit ${PIPESTATUS[0]}", (0, 1), ""),
    "the table in ASCII": (f"{ASCII} gradsim run small.toml", 0, "horizon"),
    "the folder in ASCII": (f"{ASCII} gradsim run small.toml --out ünï", 0, "saved in \\udcc3"),
    "the table in one column": ("FORCE_COLOR=1 COLUMNS=1 gradsim run small.toml", 0, "saved in"),
    "no docstrings in a run": ("PYTHONOPTIMIZE=2 gradsim run small.toml", 0, "saved in"),
    "no docstrings in a check": ("PYTHONOPTIMIZE=2 gradsim check own.py", 1, "Failed: Own"),
    "few files": ("ulimit -n 24; gradsim run small.toml", (0, 1), ""),
    "small files": ("ulimit -f 1; gradsim run small.toml", 1, "cannot write the run folder"),
    "no temporary folder": ("TMPDIR=/nowhere gradsim plan small.toml", 0, "in all"),
    "a backend that is none": ("MPLBACKEND=nope gradsim run small.toml", 2, "see MPLBACKEND"),
}


def cases(found, *marks):
    return [pytest.param(*case, id=name, marks=marks) for name, case in found.items()]


@pytest.mark.parametrize(("command", "code", "said"), [*cases(QUICK), *cases(SLOW, pytest.mark.long)])
def test_a_command_ends_well_wherever_it_is_called(tmp_path, command, code, said):
    (tmp_path / "small.toml").write_text(toml(SMALL))
    (tmp_path / "trained.toml").write_text(toml(TRAINED))
    (tmp_path / "own.py").write_text(OWN)
    script = f'gradsim() {{ "{sys.executable}" -m gradsim "$@"; }}\n{command}'
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": ""},
        capture_output=True,
        timeout=SECONDS,
        check=False,
    )
    output = (done.stdout + done.stderr).decode()
    assert done.returncode in (code if isinstance(code, tuple) else (code,)), output
    assert done.returncode in CODES
    assert "Traceback" not in output
    assert said in output
