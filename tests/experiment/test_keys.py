"""Mistakes in the keys of an experiment, each with its key and the fix."""

from __future__ import annotations

import pytest
from experiments import mistakes, mistakes_of, training

from gradsim.experiment.kinds import TRAINING


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"sed": 1}, "sed: unknown key 'sed'; did you mean 'seed'?"),
        (
            {"pairs": {"maxlag": 1}},
            "pairs.maxlag: unknown parameter of pairs 'maxlag'; did you mean 'max_lag'?",
        ),
        ({"compare": [{"label": "a", "sed": 1}]}, "compare.0.sed: unknown key 'sed'; did you mean 'seed'?"),
        ({"seed": -1}, "seed: should be greater than or equal to 0 (got -1)"),
        ({"batch": True}, "batch: should be a valid integer (got True)"),
        ({"dtype": "float16"}, "dtype: should be 'float32' or 'float64' (got 'float16')"),
        ({"name": "../x"}, "name: should be made of letters, digits and . _ - to name a folder"),
        ({"cell": "elman"}, "cell: should be a table with a name"),
        ({"task": {"length": 30}}, "task: should be a table with a name, such as"),
        ({"cell": {"name": "elmn"}}, "cell.name: unknown cell 'elmn'; did you mean 'elman'?"),
        ({"task": {"name": "add"}}, "task.name: unknown task 'add'; did you mean 'adding'?"),
        ({"record": ["los"]}, "record.0: unknown recorder 'los'; did you mean 'loss'?"),
        ({"record": []}, "record: should not be empty (got [])"),
        ({"record": [["loss"]]}, "record.0: should be a valid string (got ['loss'])"),
        ({"pairs": 3}, "pairs: should be a table (got 3)"),
        ({"pairs": [3]}, "pairs: should be a table (got [3])"),
        ({"task": [0.5]}, "task: should be a table with a name, such as"),
        ({"mitigations": 3}, "mitigations: should be a list (got 3)"),
        ({"mitigations": [3]}, "mitigations.0: should be a table with a name, such as"),
        ({"batch": -(16**5000)}, "batch: should be greater than 0 (got an int of 20001 bits)"),
        ({"compare": [{"label": ["a"]}]}, "compare.0.label: should be a valid string (got ['a'])"),
        (
            {"cell": {"name": "elman", "recurent_scale": 1}},
            "cell.recurent_scale: unknown parameter of elman 'recurent_scale'; did you mean",
        ),
        (
            {"cell": {"name": "elman", "recurrent_scale": "x"}},
            "cell.recurrent_scale: should be a valid number",
        ),
        ({"cell": {"name": "elman", "activation": "x"}}, "cell.activation: should be 'tanh', 'relu' or"),
        ({"mitigations": [{"name": "truncate", "k1": 3, "k2": 2}]}, "mitigations.0: Truncate: k1 <= k2"),
        ({"pairs": {"max_lag": 1, "times": [2]}}, "pairs: give max_lag or times, not both"),
        ({"pairs": {"lags": 3}}, "pairs.lags: should be a list (got 3)"),
        ({"pairs": {"lags": []}}, "pairs: lags should name at least one (got ()); leave it out"),
        ({"compare": [{"label": "a"}, {"label": "a"}]}, "compare: label 'a' is used twice"),
    ],
)
def test_each_mistake_names_its_key_and_the_fix(changes, line):
    (found,) = mistakes(**changes)
    assert found.startswith(line)


def test_all_mistakes_come_at_once():
    lines = mistakes(
        sed=1,
        batch=0,
        cell={"name": "elman", "recurrent_scale": -1, "hiden_size": 3, "hidden_size": 0},
        mitigations=[{"name": "clip_norm", "max_norm": "big"}, {"name": "clip"}],
        record=["los"],
        compare=[{"label": "a", "cell": {"gains": 1}}],
    )
    assert [line.split(":")[0] for line in lines] == [
        "batch",
        "sed",
        "mitigations.0.max_norm",
        "mitigations.1.name",
        "record.0",
        "cell.hiden_size",
        "cell.hidden_size",
        "cell.recurrent_scale",
        "compare.0.cell.gains",
    ]


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"epoch": 3}, "epoch: unknown key 'epoch'; did you mean 'epochs'?"),
        ({"optimizer": None}, "optimizer: is missing"),
        ({"optimizer": "adam"}, "optimizer: should be a table with a name"),
        ({"optimizer": {"name": "adm"}}, "optimizer.name: unknown optimizer 'adm'; did you mean 'adam'?"),
        (
            {"optimizer": {"name": "sgd", "momentun": 0.9}},
            "optimizer.momentun: unknown parameter of sgd 'momentun'; did you mean 'momentum'?",
        ),
        (
            {"optimizer": {"name": "sgd", "schedule": {"name": "step_decay", "every": 0}}},
            "optimizer.schedule.every: should be greater than 0 (got 0)",
        ),
        (
            {"optimizer": {"name": "sgd", "schedule": {"name": "warmup", "after": "cosin"}}},
            "optimizer.schedule.after.name: unknown schedule 'cosin'; did you mean 'cosine'?",
        ),
        (
            {"optimizer": {"name": "sgd", "schedule": {"final": 0.1}}},
            "optimizer.schedule: should be a table with a name",
        ),
        ({"updates": None}, "updates: give updates or epochs: exactly one of the two"),
        ({"epochs": 2}, "epochs: give updates or epochs: exactly one of the two"),
        (
            {"compare": [{"label": "a", "updates": 1, "epochs": 1}]},
            "compare.0.epochs: give updates or epochs",
        ),
        ({"updates": 2.5}, "updates: should be a valid integer (got 2.5)"),
        ({"stateful": 1}, "stateful: should be a valid boolean (got 1)"),
        ({"record": ["loss"]}, "record: should be a table (got ['loss'])"),
        ({"record": {"batch": 2}}, "record: record needs every"),
        ({"record": {"every": 0}}, "record.every: should be greater than 0 (got 0)"),
        (
            {"record": {"every": 1, "recorders": "loss"}},
            "record.recorders: should be a list, such as ['loss'] (got 'loss')",
        ),
        (
            {"record": {"every": 1, "recorders": ["los"]}},
            "record.recorders.0: unknown recorder 'los'; did you",
        ),
        (
            {"record": {"every": 1, "evry": 1}},
            "record.evry: unknown parameter of record 'evry'; did you mean",
        ),
        (
            {"record": {"every": 1, "pairs": {"maxlag": 1}}},
            "record.pairs.maxlag: unknown parameter of pairs 'maxlag'; did you mean 'max_lag'?",
        ),
        (
            {"validate": {"evry": 1, "every": 1}},
            "validate.evry: unknown parameter of validate 'evry'; did you",
        ),
        ({"stop": {"patience": "x"}}, "stop.patience: should be a valid integer (got 'x')"),
    ],
)
def test_each_mistake_of_a_training_names_its_key_and_the_fix(changes, line):
    (found,) = mistakes_of(training(**changes), TRAINING)
    assert found.startswith(line)


def test_all_mistakes_of_a_training_come_at_once():
    given = training(
        updates=0,
        optimizer={"name": "sgd", "learning_rate": 0, "schedule": {"name": "cosine", "final": 2}},
        record={"every": 0, "recorders": ["los"], "pairs": {"lags": []}},
        validate={"every": "x"},
        compare=[{"label": "a", "optimizer": {"momentum": 1}, "validate": {"sequences": 0, "every": 1}}],
    )
    assert [line.split(":")[0] for line in mistakes_of(given, TRAINING)] == [
        "updates",
        "optimizer.schedule.final",
        "optimizer.learning_rate",
        "record.recorders.0",
        "record.pairs",
        "record.every",
        "validate.every",
        "compare.0.optimizer.momentum",
        "compare.0.validate.sequences",
    ]
