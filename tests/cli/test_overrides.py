"""Flags and --set, before anything is validated."""

from __future__ import annotations

import pytest

from gradsim.cli.overrides import assign, assign_all, override, parsed
from gradsim.errors import InputError

NO_FLAGS = {
    "cell": None,
    "task": None,
    "mitigations": (),
    "record": (),
    "seed": None,
    "batch": None,
    "dtype": None,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        ("1e-3", 1e-3),
        ("true", True),
        ("[1, 2]", [1, 2]),
        ("[h, c]", ["h", "c"]),
        ("[1,h]", [1, "h"]),
        ("[h, [c]]", "[h, [c]]"),
        ('"3"', "3"),
        ("relu", "relu"),
        ("", ""),
        ("2024-01-01", "2024-01-01"),
        ("1\nb = 2", "1\nb = 2"),
        ("9" * 4301, "9" * 4301),
        ("[" * 5000, "[" * 5000),
        ('{ name = "gru" }', {"name": "gru"}),
    ],
)
def test_values_are_those_of_toml_or_else_text(text, value):
    assert parsed(text) == value
    assert type(parsed(text)) is type(value)


def test_set_reaches_nested_keys_and_makes_tables():
    tables = {"cell": {"name": "lstm"}}
    assign(tables, "cell.hidden_size=64")
    assign(tables, "pairs.max_lag=3")
    assert tables == {"cell": {"name": "lstm", "hidden_size": 64}, "pairs": {"max_lag": 3}}


@pytest.mark.parametrize("entry", ["1", "clip_norm"])
def test_set_finds_an_entry_of_a_list_by_index_and_by_name(entry):
    tables = {"mitigations": [{"name": "gate"}, {"name": "clip_norm"}]}
    assign(tables, f"mitigations.{entry}.max_norm=2")
    assert tables["mitigations"][1] == {"name": "clip_norm", "max_norm": 2}


@pytest.mark.parametrize(("given", "called"), [("my/own.py:MeanClip", "MeanClip"), ("own.py", "own")])
def test_set_finds_what_is_in_a_file_without_naming_the_file(given, called):
    tables = {"mitigations": [{"name": given}]}
    assign(tables, f"mitigations.{called}.factor=2")
    assert tables["mitigations"] == [{"name": given, "factor": 2}]


def test_set_asks_for_the_number_where_a_name_says_too_little():
    tables = {"mitigations": [{"name": "gate"}, {"name": "clip_norm"}, {"name": "clip_norm"}]}
    with pytest.raises(InputError, match=r"1 and 2 are all called clip_norm; give the number instead"):
        assign(tables, "mitigations.clip_norm.max_norm=2")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("seed", "should be KEY=VALUE"),
        ("=3", "should be KEY=VALUE"),
        ("a..b=3", "should be KEY=VALUE"),
        ("seed.x=3", "seed is not a table"),
        ("seed.x.y=3", "there is no table x"),
        ("mitigations.1.x=3", r"there is no entry '1', only 0 \(gate\)"),
        ("compare.elman.x=3", "there is no entry 'elman', and no other"),
        (f"mitigations.{'9' * 4301}.x=3", "there is no entry '999"),
        (f"seed.{'x' * 5000}=3", r"^--set seed.xxx.{50,300} seed is not a table \(it is 1\)$"),
    ],
)
def test_a_set_that_leads_nowhere_is_refused(change, message):
    with pytest.raises(InputError, match=message):
        assign({"seed": 1, "mitigations": [{"name": "gate"}]}, change)


def test_all_that_can_be_is_set_and_the_rest_told_at_once():
    tables = {"seed": 1, "cell": {"name": "lstm"}}
    told = [*assign_all(tables, ["seed", "cell.gain=2", "compare.elman.x=3", "dtype=float32"])]
    assert [line.partition(":")[0] for line in told] == ["--set seed", "--set compare.elman.x=3"]
    assert tables["cell"] == {"name": "lstm", "gain": 2}
    assert tables["dtype"] == "float32"


def test_flags_replace_what_the_experiment_has():
    tables = {"cell": {"name": "lstm", "gain": 2}, "mitigations": [{"name": "gate"}], "compare": []}
    flags = NO_FLAGS | {
        "cell": {"name": "gru"},
        "mitigations": ({"name": "clip_norm"},),
        "record": ("loss",),
        "seed": 4,
    }
    assert override(tables, flags, default=False) == {
        "cell": {"name": "gru"},
        "mitigations": [{"name": "clip_norm"}],
        "record": ["loss"],
        "seed": 4,
        "compare": [],
    }
    assert tables["cell"]["name"] == "lstm"


def test_another_task_makes_another_experiment_of_the_default_one():
    tables = {"cell": {"name": "lstm"}, "task": {"name": "sunspots"}, "compare": []}
    changed = override(tables, NO_FLAGS | {"task": {"name": "csv", "path": "rain.csv"}}, default=True)
    assert changed["task"] == {"name": "csv", "path": "rain.csv"}
    assert changed["name"] == "csv-lstm"
    assert "compare" not in changed


def test_no_flag_changes_nothing():
    tables = {"cell": {"name": "lstm"}, "compare": []}
    assert override(tables, NO_FLAGS, default=True) == tables
