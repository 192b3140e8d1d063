"""What a cell says of itself, draws and starts from: refused in words for its author, by runs and the kit."""

from __future__ import annotations

import inspect
from dataclasses import dataclass

import numpy as np
import pytest
from helpers import OneBlock

import gradsim
from gradsim import Cell, Derived, Wrapper
from gradsim.errors import PluginError
from gradsim.testing import check_cell

X = np.random.default_rng(0).standard_normal((6, 3, 2))


def changed(**members):
    for name, member in members.items():
        if inspect.isfunction(member):
            member.__name__ = name
    return dataclass(frozen=True, eq=False)(type("Odd", (OneBlock,), members))()


def raising(self):
    return {"h": 3}["g"]


def params_of(value):
    return lambda self, rng: value


KEPT = {"U": np.eye(3), "W": np.ones((3, 2))}


def kept(self, rng):
    KEPT["U"] *= 0.9
    return KEPT


ASKING = {"step": lambda self, params, state, inputs, xp, *, mask: mask * state}
ODD = {
    "blocks is a method": (
        {"blocks": lambda self: {"h": 3}},
        r"blocks is a method; put @property above it: it should map names to sizes",
    ),
    "blocks raises": (
        {"blocks": property(raising)},
        r"blocks raised KeyError: 'g' \(.*test_promises.py:\d+\)",
    ),
    "no blocks": ({"blocks": {}}, r"blocks is {}; it should map names to sizes, ints of 1 or more"),
    "blocks a list": ({"blocks": [3]}, r"blocks is \[3\]; it should map"),
    "blocks a float": ({"blocks": {"h": 3.0}}, r"blocks is {'h': 3.0}; it should map"),
    "blocks an empty one": ({"blocks": {"h": 0}}, r"blocks is {'h': 0}; it should map"),
    "blocks without names": ({"blocks": {0: 3}}, r"blocks is {0: 3}; it should map"),
    "input_size text": (
        {"input_size": "2", "__annotations__": {"input_size": str}},
        r"input_size is '2'; it should be an int",
    ),
    "input_size below 0": (
        {"input_size": -1, "__annotations__": {"input_size": int}},
        r"input_size is -1; it should be an int",
    ),
    "groups uneven": ({"jacobian_groups": 2}, r"jacobian_groups is 2; it should divide the size 3"),
    "groups a method": ({"jacobian_groups": lambda self: 1}, r"jacobian_groups is a method; put @property"),
    "outputs text": ({"output_blocks": "h"}, r"output_blocks is 'h'; it should be a tuple of some of"),
    "outputs unknown": ({"output_blocks": ("H",)}, r"unknown block in output_blocks 'H'; did you mean 'h'\?"),
    "output_size a float": ({"output_size": 3.0}, r"output_size is 3.0; it should be an int, 1 or more"),
    "weights text": ({"recurrent_weights": "U"}, r"recurrent_weights is 'U'; it should be a tuple of names"),
    "fixed a list": ({"fixed": ["U"]}, r"fixed is \['U'\]; it should be a tuple of names"),
    "paths text": ({"paths": "gate"}, r"paths is 'gate'; it should be a tuple of names"),
    "gates a tuple": ({"gates": ("U",)}, r"gates is \('U',\); it should map parameters to tuples of names"),
    "gates unknown": ({"gates": {"V": ("update",)}}, r"unknown parameter in gates 'V'. Known: U, W"),
    "gates uneven": (
        {"gates": {"U": ("reset", "update")}},
        r"gates\['U'\] names 2 gates, which do not divide the rows of shape \(3, 3\)",
    ),
    "gates twice": (
        {"gates": {"U": ("a", "a", "b")}},
        r"gates\['U'\] is .*; it should be a tuple of different",
    ),
    "draws nothing": (
        {"draw": lambda self, rng: None, **ASKING},
        r"draw\(\) returns None; it should be a dict",
    ),
    "draws objects": (
        {"draw": lambda self, steps, batch: {"mask": np.full((steps, batch, 3), None)}, **ASKING},
        r"draw\(\) gives 'mask' of dtype object; draw numbers",
    ),
    "draw raises": (
        {"draw": lambda self, rng: {}["mask"], **ASKING},
        r"draw\(\) raised KeyError: 'mask' \(.*test_promises.py:\d+\)",
    ),
    "draw asks for more": (
        {"draw": lambda self, rng, episode: {}, **ASKING},
        r"draw\(\) raised TypeError: .* 'episode'",
    ),
    "gates text": (
        {"gates": {"U": "update"}},
        r"gates is {'U': 'update'}; it should map parameters to tuples",
    ),
    "init_params takes nothing": (
        {"init_params": lambda self: {}},
        r"init_params\(\) takes \(\); it should take \(rng\)",
    ),
    "init_params raises": (
        {"init_params": lambda self, rng: rng.normals(3)},
        r"init_params\(\) raised AttributeError: .*normals.* \(.*test_promises.py:\d+\)",
    ),
    "params a list": (
        {"init_params": params_of([np.eye(3)])},
        r"init_params\(\) returns a list; it should be a dict",
    ),
    "params missing": (
        {"init_params": params_of(None)},
        r"init_params\(\) returns None; it should be a dict",
    ),
    "params ragged": (
        {"init_params": params_of({"U": [[1.0], [1.0, 2.0]]})},
        r"init_params\(\)\['U'\] is a list; it should be a float64 array",
    ),
    "params objects": (
        {"init_params": params_of({"U": np.array([None])})},
        r"init_params\(\)\['U'\] is an array of object; it should be a float64 array",
    ),
    "params text": (
        {"init_params": params_of({"U": "big"})},
        r"init_params\(\)\['U'\] is a str; it should be",
    ),
    "params complex": (
        {"init_params": params_of({"U": 1j * np.eye(3)})},
        r"\['U'\] is an array of complex128; it",
    ),
    "params NaN": (
        {"init_params": params_of({"U": np.full((3, 3), np.nan)})},
        r"\['U'\] holds NaN or infinity",
    ),
    "params without names": (
        {"init_params": params_of({0: np.eye(3)})},
        r"init_params\(\) names a parameter 0",
    ),
    "params anyhow": (
        {"init_params": lambda self, rng: OneBlock.init_params(self, np.random.default_rng())},
        r"init_params\(\) draws other numbers from the same rng; take all randomness from the rng",
    ),
    "params kept and changed": (
        {"init_params": kept},
        r"init_params\(\) draws other numbers from the same rng",
    ),
    "start raises": (
        {"initial_state": lambda self: 1 / 0},
        r"initial_state\(\) raised ZeroDivisionError: .*test_promises.py:\d+\)",
    ),
    "start missing": (
        {"initial_state": lambda self: None},
        r"initial_state\(\) is None; it should be 3 finite floats",
    ),
    "start too long": (
        {"initial_state": lambda self: np.zeros(4)},
        r"initial_state\(\) has shape \(4,\), dtype float64; it should be 3 finite floats",
    ),
    "start NaN": ({"initial_state": lambda self: np.full(3, np.nan)}, r"it should be 3 finite floats"),
}


@pytest.mark.parametrize("case", ODD)
def test_what_is_wrong_with_a_cell_is_said_by_a_run_and_by_the_kit(case):
    members, message = ODD[case]
    cell = changed(**members)
    with pytest.raises(PluginError, match=rf"^Odd\(.*{message}"):
        gradsim.simulate(cell, X)
    with pytest.raises(AssertionError, match="Odd"):
        check_cell(cell)


@dataclass(frozen=True, eq=False)
class Around(Wrapper):
    name = "around"
    cell: Cell

    def own_params(self, rng):
        return {"gain": np.ones(3)}

    def mix(self, own, state, inputs, new, xp):
        return own["gain"] * new


@dataclass(frozen=True, eq=False)
class Made(Derived):
    name = "made"
    cell: Cell

    replaces = ("U",)

    def own_params(self, rng):
        return {"V": rng.standard_normal((3, 3))}

    def derive(self, own, inner, xp):
        return {"U": own["V"]}


WRAPPED = {
    "own_params a list": (
        Around,
        "own_params",
        lambda self, rng: [1],
        r"own_params\(\) returns a list; it should",
    ),
    "own_params raises": (
        Around,
        "own_params",
        lambda self, rng: 1 / 0,
        r"own_params\(\) raised ZeroDivision",
    ),
    "own_params text": (
        Around,
        "own_params",
        lambda self, rng: {"gain": "x"},
        r"own_params\(\)\['gain'\] is a str",
    ),
    "own_draw nothing": (
        Around,
        "own_draw",
        lambda self, rng: None,
        r"own_draw\(\) returns None; it should be",
    ),
    "own_draw raises": (
        Around,
        "own_draw",
        lambda self, rng: {}["a"],
        r"own_draw\(\) raised KeyError: 'a' \(",
    ),
    "mix nothing": (
        Around,
        "mix",
        lambda self, own, state, inputs, new, xp: None,
        r"step\(\) returns nothing; it should end",
    ),
    "mix misspells": (
        Around,
        "mix",
        lambda self, own, state, inputs, new, xp: own["gian"] * new,
        r"step\(\) raised KeyError: unknown name 'gian'.* \(.*test_promises.py:\d+\)",
    ),
    "derive nothing": (
        Made,
        "derive",
        lambda self, own, inner, xp: None,
        r"derive\(\) returns None; it should",
    ),
    "derive misspells": (
        Made,
        "derive",
        lambda self, own, inner, xp: {"U": own["v"]},
        r"derive\(\) raised KeyError: unknown name 'v'; did you mean 'V'\?",
    ),
}


@pytest.mark.parametrize("case", WRAPPED)
def test_what_is_wrong_with_a_wrapper_is_said_by_a_run_and_by_the_kit(case):
    base, method, wrong, message = WRAPPED[case]
    wrong.__name__ = method
    cell = type("Odd", (base,), {method: wrong})(OneBlock())
    with pytest.raises(PluginError, match=rf"^Odd\(.*{message}"):
        gradsim.simulate(cell, X)
    with pytest.raises(AssertionError, match="Odd"):
        check_cell(cell)


def test_what_is_unusual_and_right_runs():
    class Unusual(OneBlock):
        fixed = ("U",)

        def init_params(self, rng, more=None):
            return {"U": [[1, 0, 0], [0, 1, 0], [0, 0, 1]], "W": np.float32(1) * np.ones((3, 2), "float32")}

        def initial_state(self):
            return [1, 2, 3]

    gradsim.simulate(Unusual(), X, record=["gradient"])


def test_a_class_that_is_no_dataclass_is_named():
    class Plain(Cell):
        name = "plain"
        input_size = 2
        blocks = {"h": 3}  # noqa: RUF012
        init_params, step = OneBlock.init_params, OneBlock.step

    message = r"Plain is no dataclass; decorate the class with @dataclass\(frozen=True, eq=False\)"
    for arguments in ((), (2,)):
        with pytest.raises(PluginError, match=message):
            Plain(*arguments)
