"""Whatever is asked of the command line, it ends as a command may, and in time."""

from __future__ import annotations

from hypothesis import given
from judging import drawn, ends, short_and_long
from lines import lines


@short_and_long(200, 5_000)
def test_command_lines(ground, cases):
    @drawn(cases)
    @given(lines())
    def each(line):
        ends(line)

    each()
