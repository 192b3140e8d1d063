"""Progress: a bar if it is asked for, and notes of the fraction done, at most once a second."""

from __future__ import annotations

import pytest

from gradsim.machine import progress as module
from gradsim.machine.progress import progress, unseen


@pytest.fixture
def now(monkeypatch):
    clock = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: clock[0])
    return clock


def test_notes_come_once_a_second(now):
    noted = []
    with progress(lambda: 8.0, False, noted.append) as advance:
        for seconds in (0.5, 0.4, 0.2, 0.3, 0.9):
            now[0] += seconds
            advance("forward", 2.0)
    assert noted == [0.75, 1.0]  # never more than all of it


def test_a_run_without_operations_is_done(now):
    noted = []
    with progress(lambda: 0.0, False, noted.append) as advance:
        now[0] += 2
        advance("start", 0.0)
    assert noted == [1.0]


@pytest.mark.parametrize("show", [True, False, None])
def test_a_bar_is_shown_if_asked_for(show, capfd):
    with progress(lambda: 2.0, show, None) as advance:
        advance("forward", 1.0)
    out, err = capfd.readouterr()
    assert out == ""
    assert bool(err) == bool(show)


def test_where_nobody_sees_it_nothing_is_counted():
    with progress(lambda: pytest.fail("nobody should ask"), False, None) as advance:
        assert advance is unseen


def test_an_error_inside_comes_out():
    with pytest.raises(ZeroDivisionError), progress(lambda: 1.0, True, None):
        raise ZeroDivisionError
