"""Every argument of every verb: what does not fit is named, whatever it is."""

from __future__ import annotations

import itertools
from dataclasses import fields

import numpy as np
import pytest

import gradsim
from gradsim import Pairs, Probe, Stopping, Validation
from gradsim.errors import GradsimError, InputError, UnknownNameError
from gradsim.run.parameters import LaunchParameters, PreparationParameters, SimulateParameters, listed
from gradsim.training.parameters import (
    LiveLaunchParameters,
    ResumeParameters,
    TrainingParameters,
    TrainParameters,
)
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import SGD
from gradsim_tasks import Sunspots

X = np.random.default_rng(0).standard_normal((6, 3, 1))
CELL, TASK = Elman(1, 3), Sunspots(length=12)

ODD = {
    "none": None,
    "true": True,
    "one": 1,
    "zero": 0,
    "minus": -1,
    "half": 2.5,
    "nan": np.nan,
    "inf": np.inf,
    "numpy": np.int32(1),
    "huge": 10**400,
    "text": "x",
    "null": "\0",
    "bytes": b"x",
    "list": [3],
    "empty": [],
    "dict": {"x": 3},
    "nothing": {},
    "object": object(),
    "class": Elman,
    "array": np.ones(2),
    "complex": 1j,
    "function": print,
}

SWITCH = {"true"}
"""What is taken for yes or no."""

COUNT = {"one", "numpy"}

TAKEN = {
    "allow_changed": SWITCH,
    "batch": COUNT,
    "cell": set(),
    "checkpoint_seconds": {"zero", "one", "half", "numpy"},
    "derivatives": set(),
    "dtype": {"none"},
    "epochs": COUNT,
    "force": SWITCH,
    "in_memory": SWITCH,
    "initial_state": set(),
    "inputs": set(),
    "live": set(),
    "memory": set(),
    "mitigations": {"empty"},
    "optimizer": set(),
    "pairs": set(),
    "params": set(),
    "path": set(),
    "progress": SWITCH,
    "record": set(),
    "replicate": {"zero", "one", "numpy"},
    "report": {"function"},
    "resume": set(),
    "rng": {"none", "zero", "one", "numpy", "huge"},
    "snapshots": {"zero", *COUNT},
    "stateful": SWITCH,
    "stop": {"nothing"},
    "store": {"text"},
    "task": set(),
    "threads": COUNT,
    "tried": SWITCH,
    "updates": COUNT,
    "validate": set(),
    "watch": SWITCH,
}
"""Parameter -> the odd values that it takes, besides None where that is its default; others are refused."""

SIMULATION = {"cell": CELL, "inputs": X}
TRAINING = {"cell": CELL, "task": TASK, "optimizer": SGD(0.01), "updates": 1, "batch": 2}
VERBS = {
    "simulate": (gradsim.simulate, SimulateParameters, SIMULATION),
    "prepare": (gradsim.prepare, PreparationParameters, SIMULATION),
    "train": (gradsim.train, TrainParameters, TRAINING),
    "prepare_training": (gradsim.prepare_training, TrainingParameters, TRAINING),
    "resume": (gradsim.resume, ResumeParameters, {"path": "run"}),
    "Simulation.run": (lambda **how: gradsim.prepare(CELL, X).run(**how), LaunchParameters, {}),
    "PreparedTraining.run": (
        lambda **how: gradsim.prepare_training(**TRAINING).run(**how),
        LiveLaunchParameters,
        {},
    ),
}
WORDS = {"path": "(path|run folder|run.json)", "store": "(store|run folder)"}
"""What a message calls an argument where that is not its name."""

CASES = [(verb, name) for verb, (_, parameters, _) in VERBS.items() for name in listed(parameters)]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def given(verb, name):
    """The other arguments, with which some value of this one would do."""
    arguments = dict(VERBS[verb][2])
    if VERBS[verb][2] is SIMULATION and name in ("batch", "task"):
        del arguments["inputs"]
        arguments["task"] = TASK
    if name == "epochs":
        del arguments["updates"]
    if verb == "resume":
        gradsim.train(**TRAINING, store="run", force=True)
    return arguments


@pytest.mark.parametrize(("verb", "name"), CASES, ids=map("-".join, CASES))
def test_every_argument_is_taken_or_named(verb, name):
    call, parameters, _ = VERBS[verb]
    taken = set(TAKEN[name])
    if listed(parameters)[name].default is None and name not in ("inputs", "updates", "epochs", "task"):
        taken.add("none")
    arguments = given(verb, name)
    for odd, value in ODD.items():
        if odd in taken:
            call(**arguments | {name: value})
            continue
        if (name, odd) == ("report", "class"):
            continue  # it can be called, too
        with pytest.raises(GradsimError, match=rf"\b{WORDS.get(name, name)}\b") as caught:
            call(**arguments | {name: value})
        assert len(str(caught.value)) < 600, "a message should not be a whole array"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if "." not in verb])
def test_arguments_that_are_missing_unknown_or_too_many(verb):
    call, parameters, arguments = VERBS[verb]
    first, name = next(iter(arguments)), [*listed(parameters)][-1]
    with pytest.raises(InputError, match=rf"^{verb}\(\) needs .*{first}|give inputs"):
        call(**{n: v for n, v in arguments.items() if n != first})
    with pytest.raises(
        UnknownNameError, match=rf"unknown argument of {verb}\(\) '{name}x'; did you mean '{name}'"
    ):
        call(**arguments | {f"{name}x": 1})
    with pytest.raises(InputError, match=rf"^{verb}\(\) takes .*{first}.* by position.*by name: .*{name}"):
        call(*range(30))
    with pytest.raises(InputError, match=rf"^{verb}\(\) is given {first} twice"):
        call(CELL, **arguments)


def test_arguments_in_another_order_are_told_the_right_one():
    with pytest.raises(
        InputError, match=r"^cell should be an instance of Cell .*; the order is simulate\(cell, inputs\)$"
    ):
        gradsim.simulate(X, CELL)
    with pytest.raises(InputError, match=r"the order is train\(cell, task\)$"):
        gradsim.train(TASK, CELL, optimizer=SGD(0.1), updates=1)


VALUES = {
    "record": [
        ("simulate", ["nrom"], UnknownNameError, "unknown recorder 'nrom'"),
        ("simulate", "loss", InputError, r"^record should be a list, such as \['loss'\] \(got 'loss'\)"),
        ("train", {"every": 0}, InputError, r"record\.every: should be greater than 0"),
    ],
    "mitigations": [
        ("simulate", [ClipNorm], InputError, r"^mitigations\.0 should .*; call the class"),
        ("simulate", ClipNorm(1.0), InputError, "^mitigations should be a list"),
    ],
    "cell": [("simulate", Elman, InputError, "^cell should be an instance of Cell; call the class")],
    "optimizer": [
        ("train", SGD, InputError, "^optimizer should be an instance of Optimizer; call the class")
    ],
    "dtype": [
        ("simulate", complex, InputError, "'float32' or 'float64'"),
        ("simulate", "f4,f4", InputError, "'float32' or 'float64'"),
    ],
    "store": [
        ("simulate", "a\0b", GradsimError, "cannot be a run folder: embedded null byte"),
        ("simulate", "x" * 5000, GradsimError, "x"),
        ("train", "x" * 5000, GradsimError, "x"),
    ],
    "rng": [
        ("simulate", 10**5000, InputError, "^rng: the seed is too long"),
        ("simulate", -(10**5000), InputError, r"^rng should be a non-neg.* \(got an int of 16610 bits"),
        ("simulate", np.random.SeedSequence(10**5000), InputError, "rng"),
    ],
    "path": [
        ("resume", "nowhere", GradsimError, r"nowhere is not a run folder"),
        ("resume", "a\0b", GradsimError, "null byte"),
    ],
    "validate": [
        ("train", {"every": 1, "evry": 3}, UnknownNameError, "'evry'; did you mean 'every'"),
        ("train", {"every": "x"}, InputError, "validate.every: should be a valid integer"),
    ],
    "params": [("simulate", {3: X}, InputError, r"params\.3 should be a valid string")],
}


@pytest.mark.parametrize(
    ("name", "verb", "value", "error", "message"),
    [(name, *row) for name, rows in VALUES.items() for row in rows],
    ids=itertools.count(),
)
def test_values_that_cannot_be_are_named(name, verb, value, error, message):
    with pytest.raises(error, match=message) as caught:
        VERBS[verb][0](**given(verb, name) | {name: value})
    assert len(str(caught.value)) < 6000


MADE = {
    Pairs: {
        "times": {"list"},
        "sources": {"list"},
        "max_lag": {"zero", *COUNT},
        "lags": {"list"},
        "blocks_out": set(),
        "blocks_in": set(),
    },
    Probe: {"every": COUNT, "recorders": set(), "batch": COUNT, "pairs": set()},
    Validation: {"every": COUNT, "sequences": COUNT},
    Stopping: {
        "patience": COUNT,
        "score_above": {"zero", "one", "minus", "half", "numpy"},
        "loss_below": {"zero", "one", "minus", "half", "numpy"},
    },
}


@pytest.mark.parametrize(("cls", "name"), [(cls, name) for cls, names in MADE.items() for name in names])
def test_every_parameter_of_a_setting_is_taken_or_named(cls, name):
    assert {f.name for f in fields(cls)} == MADE[cls].keys()
    needed = {"every": 1} if "every" in MADE[cls] else {}
    for odd, value in ODD.items():
        if odd in MADE[cls][name] or (
            odd == "none"
            and (name in Pairs.__dataclass_fields__ or name == "sequences" or cls is Stopping)
            and name != "pairs"
        ):
            cls(**needed | {name: value})
            continue
        with pytest.raises(InputError, match=rf"{name}\b"):
            cls(**needed | {name: value})


@pytest.mark.parametrize("cls", MADE)
def test_a_setting_says_what_it_lacks_and_does_not_know(cls):
    name = [*MADE[cls]][-1]
    with pytest.raises(
        UnknownNameError, match=rf"unknown argument of {cls.__name__}\(\) '{name}x'; did you mean '{name}'"
    ):
        cls(**{f"{name}x": 1})
    with pytest.raises(
        InputError, match=rf"^{cls.__name__}\(\) takes {', '.join(MADE[cls])} by position, and 9"
    ):
        cls(*range(9))
    if "every" in MADE[cls]:
        with pytest.raises(InputError, match=rf"^{cls.__name__}\(\) needs every"):
            cls()
