"""Whether what was compiled for one step serves another."""

from __future__ import annotations

import functools
import os
import sys
import threading
from abc import ABCMeta
from collections import UserDict, deque
from dataclasses import dataclass
from functools import cached_property
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from gradsim.numerics.autodiff.alike import look

GAIN = 1.0
SETTINGS = SimpleNamespace(gain=1.0, inner=SimpleNamespace(gain=1.0))
HERE = ModuleType("here")
HERE.gain = 1.0
TABLE = {"a": [1, 2]}


def helped(x):
    return TABLE["a"][0] * x


class Constants:
    gain = 1.0


def read(x):
    return (SETTINGS.gain + SETTINGS.inner.gain + Constants.gain + HERE.gain) * np.ma.count(np.tanh(x))


@dataclass(frozen=True, eq=False)
class Scaling:
    gain: Any = 1.0
    inner: Any = None

    slope = 2.0

    @cached_property
    def twice(self):
        return 2 * self.gain

    @property
    def offset(self):
        return GAIN

    def step(self, x):
        return self.gain * self.twice * helped(x) + self.offset


FIELDS = [1.0, 1, True, -0.0, 0.0, None, "one", np.ones(2), np.ones(2, "float32"), np.ones((2, 1)), (1,), [1]]


@pytest.mark.parametrize("one", FIELDS, ids=repr)
def test_objects_are_alike_if_they_hold_the_same(one):
    for other in FIELDS:
        same = look(Scaling(one).step) == look(Scaling(other).step)
        assert same == (one is other)
    copied = one.copy() if isinstance(one, np.ndarray) else one
    assert look(Scaling(one).step) == look(Scaling(copied).step)


def test_objects_inside_are_looked_into():
    assert look(Scaling(inner=Scaling(2)).step) == look(Scaling(inner=Scaling(2)).step)
    assert look(Scaling(inner=Scaling(2)).step) != look(Scaling(inner=Scaling(3)).step)
    assert look(Scaling(inner={1: {2.0}}).step) != look(Scaling(inner={1: {3.0}}).step)


def test_what_is_no_plain_value_is_itself_only():
    thing = object()
    assert look(Scaling(thing).step) == look(Scaling(thing).step)
    assert look(Scaling(object()).step) != look(Scaling(object()).step)


@pytest.mark.parametrize(("name", "value"), [("gain", 2.0), ("table", np.zeros(2)), ("new", None)])
def test_what_such_a_thing_holds_counts(name, value):
    thing = Constants()
    thing.gain, thing.table, thing.itself = 1.0, np.ones(2), thing
    before = look(Scaling(thing).step)
    assert look(Scaling(thing).step) == before
    setattr(thing, name, value)
    assert look(Scaling(thing).step) != before


def test_what_an_object_makes_of_the_rest_does_not_count():
    one, other = Scaling(), Scaling()
    assert one.twice == 2
    assert look(one.step) == look(other.step)


def test_what_is_kept_beside_the_fields_does():
    one, other = Scaling(), Scaling()
    object.__setattr__(one, "hidden", 1)
    assert look(one.step) != look(other.step)


@pytest.mark.parametrize(("name", "value"), [("GAIN", 2.0), ("TABLE", {"a": [3, 2]})])
def test_constants_beside_the_class_count(name, value, monkeypatch):
    before = look(Scaling().step)
    assert look(Scaling().step) == before
    monkeypatch.setitem(globals(), name, value)
    assert look(Scaling().step) != before


def test_constants_of_the_class_count(monkeypatch):
    before = look(Scaling().step)
    monkeypatch.setattr(Scaling, "slope", 3.0)
    assert look(Scaling().step) != before


def test_closures_of_functions_count():
    gain = 1.0

    def step(x):
        return gain * x

    before = look(step)
    assert look(step) == before
    gain = 2.0
    assert look(step) != before


def test_closures_that_are_empty_yet_do_no_harm():
    def step(x):
        return later * x

    before = look(step)
    later = 1.0
    assert look(step) != before


def test_functions_that_took_the_place_of_others_count(monkeypatch):
    before = look(Scaling().step)
    monkeypatch.setitem(globals(), "helped", lambda x: x + TABLE["a"][0])
    assert look(Scaling().step) != before


def test_functions_of_libraries_that_took_the_place_of_others_count():
    act = np.tanh

    def step(x):
        return act(x)

    before = look(step)
    act = np.sin
    assert look(step) != before


def test_methods_that_took_the_place_of_others_count(monkeypatch):
    before = look(Scaling().step)
    monkeypatch.setattr(Scaling, "offset", property(lambda self: 2.0))
    assert look(Scaling().step) != before


@pytest.mark.parametrize("owner", [SETTINGS, SETTINGS.inner, Constants, HERE], ids=range(4))
def test_what_is_read_of_modules_classes_and_objects_counts(owner, monkeypatch):
    before = look(read)
    assert look(read) == before
    monkeypatch.setattr(owner, "gain", 2.0)
    assert look(read) != before


MINE = """
from dataclasses import dataclass
from types import SimpleNamespace

GAIN, TABLE = 1.0, {"a": [1.0]}
SETTINGS = SimpleNamespace(inner=SimpleNamespace(gain=1.0))

def scaled(x, by=[1.0], *, plus={"a": 1.0}):
    return by[0] * x + plus["a"] + TABLE["a"][0]

class Slopes:
    slope = 1.0

class Others:
    slope = 2.0

@dataclass(frozen=True, eq=False)
class Inner:
    gain: object

@dataclass(frozen=True, eq=False)
class Cell(Slopes):
    gain: object
    inner: object

    factor = 1.0

    def step(self, x):
        return scaled(x) * GAIN * self.slope + SETTINGS.inner.gain + (LATER if GAIN > 2 else 0.0)
"""

CHANGES = {
    "array": lambda m, c: c.gain.__setitem__(0, 2.0),
    "list in a tuple": lambda m, c: c.inner[0].append(2),
    "field": lambda m, c: object.__setattr__(c, "gain", 2.0),
    "field deleted": lambda m, c: vars(c).pop("inner"),
    "field of one inside": lambda m, c: object.__setattr__(c.inner[1], "gain", 2.0),
    "class of one inside": lambda m, c: object.__setattr__(c.inner[1], "__class__", m.Others),
    "inherited": lambda m, c: setattr(m.Slopes, "slope", 3.0),
    "constant": lambda m, c: setattr(m.Cell, "factor", 3.0),
    "new constant": lambda m, c: setattr(m.Cell, "new", 3.0),
    "method": lambda m, c: setattr(m.Cell, "step", lambda self, x: x),
    "new method": lambda m, c: setattr(m.Cell, "__array__", lambda self: GAIN),
    "bases": lambda m, c: setattr(m.Cell, "__bases__", (m.Others,)),
    "defaults": lambda m, c: setattr(m.scaled, "__defaults__", ([2.0],)),
    "in a default": lambda m, c: m.scaled.__defaults__[0].append(2.0),
    "keyword": lambda m, c: setattr(m.scaled, "__kwdefaults__", {"plus": {"a": 2.0}}),
    "in a keyword": lambda m, c: m.scaled.__kwdefaults__["plus"].update(a=3.0),
    "code": lambda m, c: setattr(m.scaled, "__code__", (lambda x, by, *, plus: x).__code__),
    "global": lambda m, c: setattr(m, "GAIN", 5.0),
    "function": lambda m, c: setattr(m, "scaled", abs),
    "in a global": lambda m, c: m.TABLE["a"].append(3),
    "global that was none": lambda m, c: setattr(m, "LATER", 1.0),
    "object": lambda m, c: setattr(m.SETTINGS.inner, "gain", 3.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_of_the_same_object_all_changes_are_seen(change):
    mine: Any = ModuleType("mine")
    exec(compile(MINE, "mine.py", "exec", dont_inherit=True), vars(mine))
    cell = mine.Cell(np.ones(2), ([1], mine.Inner(1.0)))
    before = look(cell.step)
    assert look(cell.step) == before
    change(mine, cell)
    assert look(cell.step) != before
    assert look(cell.step) == look(cell.step)


def test_what_an_object_has_made_of_the_rest_changes_nothing():
    thing = Scaling()
    before = look(thing.step)
    assert thing.twice == 2
    assert look(thing.step) == before


class Reading:
    """One whose numbers lie further inside."""

    factor = 1.0
    __slots__ = ("inner",)

    def __init__(self, inner):
        self.inner = inner

    def __call__(self, x):
        return self.inner[0] * self.factor * x


def closing_over(inner):
    return lambda x: inner[0] * x


@functools.cache
def remembered(x):
    return KEPT[0] * x


KEPT = [1.0]
HOLDERS = {
    "slots": Reading,
    "an object inside": lambda inner: SimpleNamespace(inner=SimpleNamespace(inner=inner)),
    "deque": lambda inner: deque([inner]),
    "dict of its own": lambda inner: UserDict(a=inner),
    "partial": lambda inner: functools.partial(pow, inner),
    "closure": closing_over,
    "bound method": lambda inner: Reading(inner).__call__,
    "array of objects": lambda inner: np.array([inner, None], dtype=object),
    "one that holds itself": lambda inner: object.__setattr__(s := Scaling(inner), "me", s) or s,
    "itself": lambda inner: (found := {"a": inner}).update(itself=found) or found,
}


@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
@pytest.mark.parametrize("around", [lambda x: x, lambda x: [x], lambda x: {"a": (x,)}], ids=range(3))
def test_what_lies_deep_inside_counts(holder, around):
    inner = [1.0]
    thing = Scaling(inner=around(holder(inner)))
    before = look(thing.step)
    assert look(thing.step) == before
    inner[0] = 2.0
    assert look(thing.step) != before
    assert look(thing.step) == look(thing.step)


def test_functions_of_the_same_code_are_looked_into_one_by_one():
    inner = [1.0], [1.0]
    one, other = map(closing_over, inner)

    def step(x):
        return one(x) + other(x)

    seen = [look(step)]
    for held in inner:
        held[0] = 2.0
        seen.append(look(step))
    assert seen[0] != seen[1] != seen[2]


def test_what_is_behind_an_object_of_another_class_counts(monkeypatch):
    thing = Scaling(inner=[Reading([1.0])])
    before = look(thing.step)
    monkeypatch.setattr(Reading, "factor", 2.0)
    assert look(thing.step) != before
    between = look(thing.step)
    monkeypatch.setattr(Reading, "__call__", lambda self, x: x)
    assert look(thing.step) != between


def test_a_class_made_by_a_call_is_nobody_elses(monkeypatch):
    made = ABCMeta("Made", (), {"factor": 1.0})
    assert made.__module__ == "abc"
    thing = Scaling(inner=[made()])
    before = look(thing.step)
    monkeypatch.setattr(made, "factor", 2.0)
    assert look(thing.step) != before


def test_what_a_function_that_remembers_reads_counts():
    def step(x):
        return remembered(x)

    before = look(step)
    KEPT[0] += 1.0
    assert look(step) != before


def test_environment_and_modules_that_a_step_imports_count(monkeypatch):
    def step(x):
        import settings_of_mine

        return float(os.environ["MINE"]) * settings_of_mine.gain * x

    settings: Any = ModuleType("settings_of_mine")
    settings.gain = 1.0
    monkeypatch.setitem(sys.modules, "settings_of_mine", settings)
    monkeypatch.setenv("MINE", "1")
    seen = [look(step)]
    settings.gain = 2.0
    seen.append(look(step))
    monkeypatch.setenv("MINE", "2")
    seen.append(look(step))
    assert seen[0] != seen[1] != seen[2]
    assert look(step) == seen[2]


def test_what_nobody_can_look_into_is_itself():
    for thing in (threading.Lock(), iter([1]), (x for x in [1]), ModuleType("empty")):
        assert look(Scaling(thing).step) == look(Scaling(thing).step)
