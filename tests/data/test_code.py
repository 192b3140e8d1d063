"""Fingerprints of the code that made a run."""

from __future__ import annotations

from small import Half, Noisy

from gradsim.data import code
from gradsim_cells import LSTM, Elman
from gradsim_optimizers import Adam
from gradsim_schedules import Cosine


def test_packages_are_taken_whole():
    found = code.fingerprints([Elman(1, 2), LSTM(1, 2), Adam(schedule=Cosine())])
    assert found.keys() == {"gradsim", "gradsim_cells", "gradsim_optimizers", "gradsim_schedules"}
    assert found == code.fingerprints([Adam(schedule=Cosine()), LSTM(3, 4)])
    assert len(set(found.values())) == 4


def test_a_class_of_a_script_is_taken_alone():
    assert code.fingerprints([Noisy()]).keys() == {"gradsim", "small.Noisy"}


def test_plugins_among_the_parameters_count():
    assert "small.Half" in code.fingerprints([Adam(schedule=Half())])


def test_what_was_typed_at_a_prompt_is_unknown():
    made = {}
    exec("class Typed(Base): pass", {"Base": Half, "__name__": "small"}, made)
    assert code.fingerprints([made["Typed"]()])["small.Typed"] == "unknown"
