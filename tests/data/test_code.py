"""Fingerprints of the code that made a run."""

from __future__ import annotations

from small import Half, Noisy

from gradsim.contracts import registry
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


def test_of_a_file_the_whole_counts_with_what_lies_beside_it(tmp_path):
    (tmp_path / "counted_cell.py").write_text(
        "import numpy, scale_of_cell\nimport gradsim_cells\n"
        "class Mine(gradsim_cells.Elman):\n    name = 'mine'\n"
    )
    (tmp_path / "scale_of_cell.py").write_text("SCALE = 0.5")
    cell = registry.build("cells", str(tmp_path / "counted_cell.py"))
    before = code.fingerprints([cell])
    assert before.keys() == {"gradsim", f"{tmp_path / 'counted_cell.py'}:Mine"}
    (tmp_path / "aside.py").write_text("SCALE = 0.25")
    assert code.fingerprints([cell]) == before
    (tmp_path / "scale_of_cell.py").write_text("SCALE = 0.25")
    assert code.fingerprints([cell]) != before


def test_what_was_typed_at_a_prompt_is_unknown():
    made = {}
    exec("class Typed(Base): pass", {"Base": Half, "__name__": "small"}, made)
    assert code.fingerprints([made["Typed"]()])["small.Typed"] == "unknown"
