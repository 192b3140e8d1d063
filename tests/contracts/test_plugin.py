"""Parameters: checked, built from tables at any depth, and mistakes that say where they are."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from functools import partial

import numpy as np
import pytest

from gradsim import Cell, Schedule, Task
from gradsim.contracts import registry
from gradsim.contracts.plugin import Passed, call_with, calling, parameters_of
from gradsim.errors import InputError, PluginError, UnknownNameError
from gradsim_cells import LSTM, Elman
from gradsim_tasks import Npz


@dataclass(frozen=True, eq=False)
class Nest(Task):
    """Takes what a table may hold."""

    name = "nest"

    cells: tuple[Cell, ...] = ()
    schedule: Schedule | None = None
    edges: tuple[tuple[int, float], ...] = ()
    label: str = "none"

    input_size = output_size = 1
    sample = loss = None


def test_tables_with_a_name_are_plugins_at_any_depth():
    given = {
        "cells": [{"name": "elman", "hidden_size": 3}, "lstm"],
        "schedule": {"name": "warmup", "length": 5, "after": {"name": "cosine", "final": 0.5}},
        "edges": [[1, 0.5], [2, 0.25]],
        "label": "lstm",
    }
    nest = registry.with_parameters(Nest, given)
    assert [type(c) for c in nest.cells] == [Elman, LSTM]
    assert nest.cells[0].hidden_size == 3
    assert repr(nest.schedule) == "Warmup(length=5, after=Cosine(final=0.5))"
    assert nest.edges == ((1, 0.5), (2, 0.25))
    assert nest.label == "lstm"  # text, where no plugin is asked for
    assert repr(registry.with_parameters(Nest, json.loads(json.dumps(nest.parameters)))) == repr(nest)


@pytest.mark.parametrize(
    ("schedule", "error", "message"),
    [
        ({"name": "cosin"}, UnknownNameError, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ("cosin", UnknownNameError, "unknown schedule 'cosin'; did you mean 'cosine'"),
        ({"name": "elman"}, UnknownNameError, "unknown schedule 'elman'"),
        ({"final": 0.1}, InputError, r"schedule: should be a table with a name, .* \(got \{'final': 0.1\}\)"),
        (
            {"name": "cosine", "final": 3.0},
            InputError,
            r"adam\.schedule\.final: should be less than or equal",
        ),
        (
            {"name": "cosine", "fnal": 3.0},
            UnknownNameError,
            "parameter of cosine 'fnal'; did you mean 'final'",
        ),
        (
            {"name": "warmup", "after": {"name": "cosine", "final": 3}},
            InputError,
            r"adam\.schedule\.after\.final: should",
        ),
        (3, InputError, r"adam\.schedule: should be an instance of Schedule \(got 3\)"),
    ],
)
def test_a_mistake_inside_a_plugin_says_where(schedule, error, message):
    with pytest.raises(error, match=message):
        registry.build("optimizers", "adam", {"schedule": schedule})


def test_all_mistakes_in_parameters_at_once():
    with pytest.raises(InputError) as error:
        Elman(input_size=0, hidden_size=2.5, activation="tan", recurrent_scale=-1)
    message = str(error.value)
    for part in (
        "input_size should be greater than 0 (got 0)",
        "hidden_size should",
        "(got 2.5)",
        "activation should be 'tanh', 'relu' or 'logistic' (got 'tan')",
        "recurrent_scale should",
    ):
        assert part in message


def test_a_function_is_called_with_what_it_names():
    offered = {"rng": 1, "steps": 2, "batch": 3}
    assert call_with(lambda: "nothing", **offered) == "nothing"
    assert call_with(lambda batch, rng: (batch, rng), **offered) == (3, 1)
    assert call_with(lambda steps, more=0: (steps, more), **offered) == (2, 0)
    assert call_with(lambda **everything: everything, **offered) == offered
    with pytest.raises(TypeError, match="moment"):
        call_with(lambda moment: moment, **offered)


def test_what_a_function_takes_and_what_it_takes_as_a_method():
    class Taking:
        def method(self, rng, *, steps=2): ...

    taking = partial(Taking().method, 1)
    for _ in range(2):  # known and as yet unknown
        assert list(parameters_of(Taking().method)) == ["rng", "steps"]
        assert list(parameters_of(Taking.method)) == ["self", "rng", "steps"]
        assert list(parameters_of(taking)) == ["steps"]
        assert list(parameters_of(np.mean)) == list(inspect.signature(np.mean).parameters)


def test_numpy_scalars_are_plain_parameters():
    assert type(Elman(np.int64(2), 3, recurrent_scale=np.float32(0.5)).recurrent_scale) is float


def test_what_a_method_raises_names_plugin_method_error_and_line():
    nest = Nest()

    def method():
        return {"W": 1}["w"]

    line = method.__code__.co_firstlineno + 1
    with pytest.raises(PluginError) as caught, calling(nest, "step", known=["W", "U"]):
        method()
    assert isinstance(caught.value.__cause__, KeyError)
    said = str(caught.value)
    assert said.startswith(f"{nest!r}: step() raised KeyError: unknown name 'w'; did you mean 'W'?")
    assert said.endswith(f"({__file__}:{line})")


def test_a_plugin_that_cannot_even_be_shown_is_named_by_its_class():
    class Broken:
        def __repr__(self):
            raise ValueError

    with (
        pytest.raises(PluginError, match=r"^a Broken: draw\(\) raised ZeroDivisionError"),
        calling(Broken(), "draw"),
    ):
        _ = 1 / 0


@pytest.mark.parametrize("error", [InputError("no"), MemoryError("full"), KeyboardInterrupt()])
def test_what_is_said_well_enough_passes_as_it_is(error):
    with pytest.raises(type(error)) as caught, calling(Nest(), "sample"):
        raise error
    assert caught.value is error


def test_a_parameter_that_nobody_knows_offers_the_nearest_one():
    with pytest.raises(UnknownNameError, match=r"LSTM.*'hiden_size'; did you mean 'hidden_size'"):
        LSTM(input_size=2, hiden_size=3)


def test_a_parameter_that_is_missing_is_named():
    with pytest.raises(InputError, match=r"Npz\(\) needs path"):
        Npz()


def test_help_shows_the_parameters_of_a_class():
    assert list(inspect.signature(Elman).parameters)[:2] == ["input_size", "hidden_size"]


def test_a_class_without_a_method_of_its_contract_names_it():
    @dataclass(frozen=True, eq=False)
    class Stepless(Cell):
        name = "stepless"
        input_size: int = 1
        blocks = init_params = None

    with pytest.raises(PluginError, match="Stepless lacks step"):
        Stepless()


def test_a_check_is_passed_for_all_that_look_the_same():
    passed = Passed()
    passed.add(LSTM(2, 3))
    assert LSTM(2, 3) in passed
    assert LSTM(2, 4) not in passed
    assert Elman(2, 3) not in passed


def test_one_that_has_passed_need_not_be_shown_again():
    class Shown:
        times = 0

        def __repr__(self):
            Shown.times += 1
            return "one"

    passed, one, other = Passed(), Shown(), Shown()
    passed.add(one)
    assert one in passed
    assert Shown.times == 1
    assert other in passed
    assert other in passed
    assert Shown.times == 2
    del one, other
    assert Shown() in passed


def test_one_that_cannot_be_held_weakly_passes_by_its_looks():
    class Slotted:
        __slots__ = ()

        def __repr__(self):
            return "one"

    passed, one = Passed(), Slotted()
    passed.add(one)
    assert one in passed
    assert Slotted() in passed


def test_what_cannot_be_shown_passes_no_check_for_good():
    class Broken:
        def __repr__(self):
            raise ValueError

    passed = Passed()
    passed.add(Broken())
    assert Broken() not in passed
