"""Tables and numbers for people."""

from __future__ import annotations

import pytest

from gradsim.cli.output import console, count, shown, table


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1 k"),
        (2.345e7, "23.4 M"),
        (5e14, "500 T"),
        (4e15, "4 P"),
        (4e19, "4e+04 P"),
    ],
)
def test_numbers_of_operations(value, words):
    assert count(value) == words


@pytest.mark.parametrize(
    ("value", "words"), [((1, 2), "[1, 2]"), ((), "[]"), ("tanh", "'tanh'"), (None, "None"), (0.5, "0.5")]
)
def test_defaults_as_they_would_be_written(value, words):
    assert shown(value) == words


def test_a_table_shows_text_as_it_is(capsys):
    made = table("Sizes", "name", "size", numbers=("size",))
    made.add_row("[bold]x", "1")
    made.add_row("y" * 60, "1000")
    console().print(made)
    title, *_, first, second = (line.rstrip() for line in capsys.readouterr().out.strip().splitlines())
    assert title == "Sizes"
    assert first.split() == ["[bold]x", "1"]
    assert second.split() == ["y" * 60, "1000"]
    assert first.endswith("   1")
