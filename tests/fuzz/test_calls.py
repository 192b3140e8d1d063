"""Whatever is given to a verb or a plugin in Python, it works, or an error of gradsim names the argument."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
from drawing import ODD, Raw, typos
from hypothesis import given
from hypothesis import strategies as st
from judging import deadline, drawn, short_and_long

import gradsim
from gradsim import Pairs
from gradsim.contracts import registry
from gradsim.errors import GradsimError
from gradsim.simulation import prepare
from gradsim.training.settings import Probe, Stopping, Validation
from gradsim_cells import GRU, Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import Adam
from gradsim_tasks import Adding


class Unspeakable:
    def __repr__(self):
        raise KeyError("nothing")


ENDLESS = []
ENDLESS.append(ENDLESS)

STRANGE = (
    *(value for value in ODD if not isinstance(value, Raw) and value != 300_000),  # updates of minutes
    *(None, object, Unspeakable(), Elman, len, 1j, b"bytes", {1}, range(3), iter([1]), ENDLESS, Path("x")),
    *(
        10**5000,
        -(10**5000),
        "\ud800",
        "\0",
        np.nan,
        np.int64(3),
        np.float32(2),
        np.bool_(True),
        np.str_("x"),
    ),
    *(np.zeros(0), np.zeros((2, 2)), np.full((5, 2, 2), np.nan), np.zeros((5, 2, 2), complex), np.array("x")),
    *(np.ones((5, 2, 2), object), np.ma.masked_all((5, 2, 2)), np.datetime64("2024-01-01")),
    *(Elman(2, 2), ClipNorm(1.0), Adding(length=20), Adam(0.1), Pairs(max_lag=2), Validation(every=1)),
)
VERBS = {
    "simulate": (
        gradsim.simulate,
        {
            "cell": Elman(2, 2),
            "inputs": np.ones((5, 2, 2)),
            "mitigations": [ClipNorm(1.0)],
            "record": ["product_norm"],
            "pairs": Pairs(max_lag=2),
            "params": {
                name: np.ones(p.shape)
                for name, p in Elman(2, 2).init_params(np.random.default_rng(0)).items()
            },
            "initial_state": np.zeros(2),
            "rng": 1,
            "dtype": "float32",
            "threads": 1,
            "memory": 1e9,
            "progress": False,
            "store": None,
            "force": False,
        },
    ),
    "prepare": (
        prepare,
        {"cell": GRU(2, 2), "task": Adding(length=20), "batch": 2, "record": ["loss"], "in_memory": False},
    ),
    "train": (
        gradsim.train,
        {
            "cell": Elman(2, 2),
            "task": Adding(length=20),
            "optimizer": Adam(0.1),
            "updates": 2,
            "batch": 2,
            "record": {"every": 1, "recorders": ["loss"]},
            "validate": {"every": 1, "sequences": 2},
            "stop": {"patience": 2},
            "mitigations": [ClipNorm(1.0)],
            "stateful": False,
            "watch": True,
            "checkpoint_seconds": 1.0,
            "allow_changed": False,
            "resume": False,
            "threads": 1,
            "memory": 1e9,
        },
    ),
    "compare": (
        gradsim.compare,
        {
            "cells": {"elman": Elman(2, 2), "gru": GRU(2, 2)},
            "inputs": np.ones((5, 2, 2)),
            "seeds": [1, 2],
            "match": "state",
            "budget": 3,
            "record": ["product_norm"],
            "pairs": Pairs(max_lag=2),
            "threads": 1,
        },
    ),
    "matched": (gradsim.matched, {"cells": {"elman": Elman(2, 2)}, "params": 50}),
    "resume": (gradsim.resume, {"path": "nowhere", "threads": 1, "memory": 1e9, "allow_changed": True}),
    "open_run": (gradsim.open_run, {"path": "nowhere", "allow_incomplete": True}),
}
PLUGINS = {
    f"{family}.{name}": cls
    for family, classes in registry.catalogue().plugins.items()
    if family != "recorders"
    for name, cls in classes.items()
    if cls.__dataclass_fields__
} | {cls.__name__: cls for cls in (Pairs, Probe, Validation, Stopping)}


def strange():
    return st.sampled_from(STRANGE).map(lambda value: value if value is ENDLESS else _copied(value))


def _copied(value):
    return copy.copy(value) if isinstance(value, list | dict | set) else value


@st.composite
def changed(draw, arguments, known, most):
    """(arguments, names that are changed, whether Python itself may refuse them)"""
    arguments, names, refused = dict(arguments), set(), False
    for _ in range(draw(st.integers(1, most))):
        name = draw(st.sampled_from(sorted(known)))
        names.add(name)
        match draw(st.sampled_from(("odd", "odd", "odd", "odd", "within", "drop", "rename"))):
            case "odd":
                arguments[name] = draw(strange())
            case "within":
                arguments[name] = draw(st.sampled_from((list, tuple)))([draw(strange())])
            case "drop":
                arguments.pop(name, None)
                refused = True
            case "rename":
                new = draw(typos(name))
                arguments[new] = arguments.pop(name, 1)
                names.add(new)
                refused = True
    return arguments, names, refused


def called(act, arguments, refused):
    """What it says, if it is refused."""
    with deadline(arguments.keys()):
        try:
            act(**arguments)
        except GradsimError as error:
            return str(error)
        except TypeError as error:
            if not refused or "argument" not in str(error):
                raise
    return None


@short_and_long(100, 1_500)
@pytest.mark.parametrize("verb", VERBS)
def test_arguments_of_verbs(ground, cases, verb):
    act, right = VERBS[verb]

    @drawn(cases)
    @given(st.sampled_from((1, 1, 3)).flatmap(lambda most: changed(right, right, most)))
    def each(case):
        arguments, names, refused = case
        said = called(act, arguments, refused)
        if said is not None and len(names) == 1 and "path" not in right:
            assert names.pop() in said or "of disk is free" in said, said

    each()


@short_and_long(150, 2_500)
def test_parameters_of_plugins(ground, cases):
    @st.composite
    def plugin(draw):
        cls = PLUGINS[draw(st.sampled_from(sorted(PLUGINS)))]
        return cls, draw(changed({}, cls.__dataclass_fields__, 2))

    @drawn(cases)
    @given(plugin())
    def each(case):
        cls, (arguments, *_) = case
        called(cls, arguments, refused=True)  # by Python, where what is needed is left out

    each()
