"""`gradsim plan`: what a run costs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradsim.cli.plan import duration
from gradsim.contracts import registry


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.2, "1 s"), (59.4, "59 s"), (61, "1 min"), (3_500, "58 min"), (8_000, "2 h"), (200_000, "2 days")],
)
def test_times_for_people(seconds, said):
    assert duration(seconds) == said


def row(output, name):
    """The table row that starts with this name, with single spaces."""
    rows = (" ".join(line.split()) for line in output.splitlines())
    return next(text for text in rows if text.startswith(f"{name} "))


def test_a_plan_gives_dims_and_bytes_of_every_variable(gradsim_cli):
    result = gradsim_cli("plan", "--set", "task.length=99", "--batch", 2)
    assert result.exit_code == 0
    # 100 x 100 x 2 float64
    assert row(result.output, "product_norm") == "product_norm (time 100, source 100, batch 2) float64 160 kB"
    assert row(result.output, "adjoint") == "adjoint (time 100, batch 2, component 64) float64 102 kB"
    assert "sunspots-elman: elman on sunspots, 99 steps, batch 2, state 32" in result.output
    assert not Path("runs").exists()


def test_a_plan_gives_time_memory_and_disk(gradsim_cli):
    record = ("--record", "product_norm", "--record", "gradient")
    result = gradsim_cli("plan", "--cell", "gru", *record)
    assert result.exit_code == 0
    assert re.search(r"^time about \d+ (s|min)$", result.output, re.MULTILINE)
    assert re.search(r"^memory [\d.]+ [MG]B at the peak: [\d.]+ MB of the run", result.output, re.MULTILINE)
    # 2 x 309 x 309 float64, and two for each of the gradients
    assert "disk 1.5" in result.output
    assert not Path("runs").exists()


def test_a_plan_of_a_run_that_fails_says_why(gradsim_cli):
    flags = ("--cell", "elman", "--set", "cell.activation=relu", "--set", "cell.recurrent_scale=1e300")
    result = gradsim_cli("plan", *flags)
    assert result.exit_code == 0
    assert "not known, because a shorter run failed" in result.output
    assert "the run needs at least" in result.output


def test_a_plan_gives_operations_by_stage(gradsim_cli):
    result = gradsim_cli("plan", "--cell", "elman", "--set", "task.length=10", "--record", "jacobian_product")
    # 10 + 9 + ... + 1 products of 32 x 32 matrices
    assert row(result.output, "products") == "products 3.6 M"


def test_a_plan_of_chosen_lags(gradsim_cli):
    flags = ("--set", "task.length=99", "--set", "pairs.lags=[10,1]", "--record", "product_norm")
    result = gradsim_cli("plan", "--cell", "elman", "--batch", 2, *flags)
    assert row(result.output, "product_norm") == "product_norm (source 100, lag 2, batch 2) float64 3.2 kB"
    # 10 products for each source but the last ones: 90 * 10 + 9, of 32 x 32 matrices of two elements
    assert row(result.output, "products") == "products 119 M"
    result = gradsim_cli("plan", "--set", "task.length=99", "--set", "pairs.lags=[100]")
    assert result.exit_code != 0
    assert "pairs: lags should lie in 0..99 (got [100])" in result.output


def test_a_plan_says_what_a_run_beyond_memory_needs(gradsim_cli):
    flags = ("--set", "task.length=100000", "--set", "cell.hidden_size=500")
    result = gradsim_cli("plan", "--task", "adding", *flags)
    assert result.exit_code == 0
    needed = re.search(r"the run works with (\d+) GB or more of memory \(", result.output)
    assert 800 <= int(needed[1]) < 810  # 800 GB of step Jacobians, and what is small beside them


def test_show_says_that_a_task_has_no_readout(gradsim_cli, monkeypatch):
    told = "Without a readout: the loss looks at the output of the cell itself."
    assert told not in gradsim_cli("show", "sunspots").output
    monkeypatch.setattr(registry.catalogue().plugins["tasks"]["sunspots"], "readout", False)
    assert told in gradsim_cli("show", "sunspots").output


def test_blocks_may_be_chosen(gradsim_cli):
    flags = ("--cell", "lstm", "--record", "jacobian_product", "--set", "task.length=9")
    result = gradsim_cli("plan", *flags, "--set", 'pairs.blocks_out=["h"]')
    assert result.exit_code == 0, result.output
    result = gradsim_cli("plan", *flags, "--set", 'pairs.blocks_out=["hh"]')
    assert "unknown block of lstm in pairs.blocks_out 'hh'; did you mean 'h'?" in result.output


def test_a_plan_says_what_is_taken_again(gradsim_cli):
    flags = ["--cell", "elman", "--task", "adding", "--set", "task.length=10240", "--record", "gradient"]
    for flag, said in (("3", "15.4 k steps are taken again, from 3 snapshots"), ("sqrt", "9.22 k steps are")):
        assert said in gradsim_cli("plan", *flags, "--snapshots", flag).output
    assert "taken again" not in gradsim_cli("plan", *flags, "--snapshots", "0").output
    result = gradsim_cli("plan", *flags, "--snapshots", "root")
    assert "snapshots: should be a valid integer or 'sqrt' (got 'root')" in result.stderr
