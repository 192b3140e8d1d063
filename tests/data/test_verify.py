"""Every file of a run, read and compared."""

from __future__ import annotations

import json

import numpy as np
import pytest

import gradsim
from gradsim.errors import IncompleteRunError, StoreError
from gradsim_cells import Elman


@pytest.fixture
def run(tmp_path):
    gradsim.simulate(Elman(2, 3), np.ones((5, 1, 2)), store=tmp_path / "run")
    return tmp_path / "run"


def test_a_run_as_it_was_written_has_no_troubles(run):
    assert gradsim.verify(run) == []


def test_every_trouble_has_a_line_with_its_file(run):
    data = run / "data.zarr"
    chunks = [
        next(p for p in (data / name / "c").rglob("*") if p.is_file()) for name in ("adjoint_norm", "time")
    ]
    chunks[0].unlink()
    chunks[1].write_bytes(bytes(reversed(chunks[1].read_bytes())))
    (data / "time" / "zarr.json").write_text("{}")  # which consolidated metadata stand for
    (data / "more").symlink_to(run)
    assert sorted(line.partition("; ")[0] for line in gradsim.verify(run)) == [
        f"{chunks[0]} is gone, which was written",
        f"{data}/more is no part of the run",
        f"{chunks[1]} is not what was written: its checksum differs",
        f"{data}/time/zarr.json has 2 bytes, where {size_of(run, 'time/zarr.json')} were written",
    ]


def size_of(run, key):
    return json.loads((run / "manifest.json").read_text())[key][0]


def test_a_letter_of_the_configuration_counts(run):
    file = run / "run.json"
    file.write_text(file.read_text().replace('"hidden_size": 3', '"hidden_size": 4'))
    with pytest.raises(StoreError, match=r"run\.json is not what was written: its configuration"):
        gradsim.verify(run)


def test_a_run_that_is_not_complete_is_no_run_to_verify(run):
    file = run / "run.json"
    file.write_text(file.read_text().replace('"status": "complete"', '"status": "failed"'))
    with pytest.raises(IncompleteRunError, match="is not complete"):
        gradsim.verify(run)
