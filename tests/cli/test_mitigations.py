"""Mitigations on the command line: which act together, how their options are written, where they act."""

from __future__ import annotations

import json

import pytest

import gradsim
from gradsim import plot
from gradsim.contracts import registry

SHORT = ("--task", "adding", "--set", "task.length=20")
SMALL = (*SHORT, "--set", "cell.hidden_size=3")


@pytest.fixture(autouse=True)
def no_figures(monkeypatch):
    monkeypatch.setattr(plot, "save", lambda figure, stem: None)


def said(folder):
    """The mitigations of a run, as its provenance has them."""
    return json.loads(gradsim.open_run(folder).attrs["provenance"])["mitigations"]


def test_several_act_together_in_the_order_written(gradsim_cli):
    truncate = ("--set", "mitigations.truncate.k1=5")
    written = [
        ("--mitigations", "truncate+clip_norm", *truncate),
        ("--mitigation", "truncate", "--mitigation", "clip_norm", *truncate),
    ]
    for how in written:
        result = gradsim_cli("run", "--cell", "lstm", *how, *SMALL, "--force")
        assert result.exit_code == 0, result.output
        assert "jacobians: truncate; gradient: clip_norm" in result.output
        told = said("runs/adding-lstm")
        assert [m["name"] for m in told] == ["truncate", "clip_norm"]
        assert told[0]["k1"] == 5
    result = gradsim_cli("run", "--cell", "lstm", "--mitigations", "truncate,clip_norm", *SMALL)
    assert result.exit_code == 2
    assert "what acts together has + between; to run with each by itself use gradsim compare" in result.output


def test_lists_need_no_quotes_and_none_is_a_word(gradsim_cli):
    result = gradsim_cli(
        *("run", "--cell", "lstm", "--mitigations", "artbp+activity+teacher_forcing", *SMALL),
        *("--set", "mitigations.artbp.alpha=none"),
        *("--set", "mitigations.activity.blocks=[h, c]"),
        *("--set", "mitigations.teacher_forcing.block=none"),
    )
    assert result.exit_code == 2  # where text is meant, it is text
    assert "teacher_forcing: unknown block of lstm 'none'" in result.output
    result = gradsim_cli(
        *("run", "--cell", "lstm", "--mitigations", "artbp+activity", *SMALL),
        *("--set", "mitigations.artbp.alpha=none"),
        *("--set", "mitigations.activity.blocks=[h, c]"),
    )
    assert result.exit_code == 0, result.output
    artbp, activity = said("runs/adding-lstm")
    assert artbp["alpha"] is None
    assert activity["blocks"] == ["h", "c"]


def test_where_they_act_is_said_of_every_run(gradsim_cli):
    """Of runs whose gradient they leave alone, too, and before a run."""
    for name, acts in {
        "skip": "cell: skip",
        "spectral_projection+skip": "cell: skip; update: spectral_projection (a simulation has no update)",
    }.items():
        result = gradsim_cli("run", "--cell", "lstm", "--mitigations", name, *SMALL, "--force")
        assert f"lstm, acts: {acts}\n" in result.output
    result = gradsim_cli("plan", "--cell", "lstm", "--mitigations", "skip+clip_norm", *SMALL)
    assert "acts: cell: skip; gradient: clip_norm\n" in result.output


@pytest.mark.parametrize("name", sorted(registry.catalogue().plugins["mitigations"]))
def test_each_can_be_planned_with_its_defaults_around_an_lstm(gradsim_cli, name):
    result = gradsim_cli("run", "--cell", "lstm", "--mitigations", name, *SMALL, "--dry-run")
    assert result.exit_code == 0, result.output
    assert name in next(line for line in result.output.splitlines() if line.startswith("acts: "))


WRONG = {
    "activity.blocks=h": "mitigations.0.blocks: should be a list, such as ['h'] (got 'h')",
    "activity.blocks=[x]": "activity: unknown block of lstm 'x'. Known: c, h",
    "clip_norm.where=adjoints": "mitigations.0.where: should be 'gradient', 'parameter', 'contribution' or",
    "scale_paths.factors.forgot=1": "unknown path of lstm in scale_paths 'forgot'; did you mean 'forget'?",
    "zoneout.rates.cc=0.5": "unknown block of lstm in the rates of Zoneout 'cc'; did you mean 'c'?",
    "layer_norm.normalised=[d]": "unknown block of lstm for LayerNorm 'd'. Known: c, h",
    "flossing.exponents=99": "flossing: exponents=99, where lstm has 6 in all",
    "weight_decay.names=[w]": "unknown parameter in weight_decay 'w'; did you mean 'W'?",
}


@pytest.mark.parametrize("change", WRONG)
def test_what_is_wrong_is_named(gradsim_cli, change):
    name = change.partition(".")[0]
    given = ("--mitigations", name, "--set", f"mitigations.{change}")
    result = gradsim_cli("run", "--cell", "lstm", *given, *SMALL)
    assert result.exit_code == 2
    assert WRONG[change] in result.output


def test_gains_between_blocks_are_called_by_them(gradsim_cli):
    """Where older states are part of the state, what leads past them is compared."""
    blocks = [argument for side in ("out", "in") for argument in ("--set", f"pairs.blocks_{side}=[h]")]
    result = gradsim_cli("compare", "--cell", "lstm", "--mitigations", "skip", "--seeds", 1, *blocks, *SHORT)
    assert result.exit_code == 0, result.output
    assert "Median RMS gain of dh_t/dh_k at lag t - k" in result.output
    ds = gradsim.open_run("runs/adding-lstm")
    assert ds.directions.values.tolist() == [[32, 32]]
    assert ds.state_size.values.tolist() == [[64, 256]]
