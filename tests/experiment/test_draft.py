"""Compared runs, and what the parts of a run have to agree on."""

from __future__ import annotations

from experiments import mistakes, tables, training

from gradsim.experiment.build import build
from gradsim.experiment.kinds import TRAINING


def test_input_size_comes_from_the_task():
    assert build(tables(), name="e")[0].arguments["cell"].input_size == 2


def test_an_input_size_that_does_not_fit_the_task_is_refused():
    (line,) = mistakes(cell={"name": "elman", "input_size": 3})
    assert line == "cell.input_size: should be 2, as the task adding has it; leave it out (got 3)"


def test_a_cell_around_others_hands_the_input_size_on():
    def inputs(**cell):
        return build(tables(cell=cell), name="e")[0].arguments["cell"].input_size

    assert inputs(name="stack") == inputs(name="residual") == 2
    assert inputs(name="zoneout", cell={"name": "layer_norm", "cell": "elman"}) == 2
    layers = [{"name": "elman", "hidden_size": 3}, {"name": "gru", "input_size": 3}]
    assert inputs(name="stack", cells=layers) == 2
    (line,) = mistakes(cell={"name": "residual", "cell": {"name": "elman", "input_size": 3}})
    assert line == "cell.input_size: should be 2, as the task adding has it; leave it out (got 3)"
    (line,) = mistakes(cell={"name": "residual", "cell": 3})
    assert line == "cell.cell: should be an instance of Cell (got 3)"


def test_a_compared_run_inherits_what_it_does_not_replace():
    given = tables(seed=3, cell={"name": "elman", "recurrent_scale": 0.5, "hidden_size": 8})
    given["compare"] = [
        {"label": "strong", "cell": {"recurrent_scale": 2.0}},
        {"label": "gru", "cell": {"name": "gru"}, "seed": 4},
        {"label": "order", "task": {"name": "temporal_order"}},
    ]
    main, strong, gru, order = build(given, name="e")
    assert [run.name for run in (main, strong, gru, order)] == ["e", "e-strong", "e-gru", "e-order"]
    cells = [run.arguments["cell"] for run in (strong, gru, order)]
    assert [(cell.name, cell.hidden_size) for cell in cells] == [("elman", 8), ("gru", 32), ("elman", 8)]
    assert [cell.input_size for cell in cells] == [2, 2, 8]
    assert cells[0].recurrent_scale == 2
    assert [run.arguments["rng"] for run in (strong, gru, order)] == [3, 4, 3]


def test_the_main_run_never_shares_its_label_with_a_compared_one():
    main, other = build(tables(compare=[{"label": "elman", "seed": 1}]), name="e")
    assert (main.label, other.label) == ("e", "elman")


def test_a_compared_training_inherits_what_it_does_not_replace():
    given = training(task={"name": "japanese_vowels"}, record={"every": 3}, batch=30, seed=4)
    given["compare"] = [
        {"label": "slow", "optimizer": {"learning_rate": 0.001}, "batch": 225},
        {"label": "sgd", "optimizer": {"name": "sgd"}, "record": {"every": 1}},
        {"label": "long", "epochs": 3},
    ]
    main, slow, sgd, long = build(given, TRAINING, name="e")
    assert [run.arguments["optimizer"].learning_rate for run in (main, slow, sgd)] == [0.01, 0.001, 0.01]
    assert [run.arguments["optimizer"].name for run in (main, slow, sgd)] == ["adam", "adam", "sgd"]
    assert [run.arguments["record"].every for run in (main, slow, sgd)] == [3, 3, 1]
    assert (slow.arguments["batch"], slow.arguments["rng"], sgd.arguments["batch"]) == (225, 4, 30)
    assert ("updates" in long.arguments, long.arguments["epochs"]) == (False, 3)
