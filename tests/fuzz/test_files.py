"""Whatever stands in an experiment file, it is planned, or refused with the names of its mistakes."""

from __future__ import annotations

import pytest
from drawing import mutated, simulation, toml, torn, training
from hypothesis import given
from hypothesis import strategies as st
from judging import drawn, ends, short_and_long

COMMANDS = {"plan": simulation, "train": training}


@short_and_long(100, 2_000)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_mistake_is_named(ground, cases, command):
    @drawn(cases)
    @given(mutated(COMMANDS[command](), most=1))
    def each(case):
        tables, names = case
        (ground / "drawn.toml").write_bytes(toml(tables).encode("utf-8", "surrogatepass"))
        code, said = ends([command, "drawn.toml", *["--dry-run"] * (command == "train")])
        if code == 2 and "is not valid TOML" not in said:
            assert any(name and name in said for name in names), (said, names)

    each()


@short_and_long(50, 1_000)
@pytest.mark.parametrize("command", COMMANDS)
def test_many_mistakes_are_told(ground, cases, command):
    @drawn(cases)
    @given(mutated(COMMANDS[command](), most=5))
    def each(case):
        (ground / "drawn.toml").write_bytes(toml(case[0]).encode("utf-8", "surrogatepass"))
        ends([command, "drawn.toml", *["--dry-run"] * (command == "train")])

    each()


@short_and_long(50, 1_000)
def test_a_torn_file_is_refused(ground, cases):
    @drawn(cases)
    @given(torn(st.one_of(simulation(), training()).map(toml)), st.sampled_from(("run", "train")))
    def each(text, command):
        (ground / "drawn.toml").write_bytes(text)
        ends([command, "drawn.toml", "--dry-run"])

    each()
