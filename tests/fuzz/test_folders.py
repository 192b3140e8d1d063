"""Run folders that are damaged in any way are opened and gone on with, or refused by name."""

from __future__ import annotations

import itertools
import json
import shutil
from contextlib import suppress

import pytest
import xarray as xr
from drawing import jsonable, mutated, torn_bytes
from ground import TRAINED
from hypothesis import given
from hypothesis import strategies as st
from judging import deadline, drawn, ends, short_and_long

import gradsim
from gradsim.errors import GradsimError
from gradsim.experiment.build import build
from gradsim.experiment.kinds import TRAINING


def stop_at_the_second(event):
    if (event["event"], event.get("update")) == ("update", 2):
        raise KeyboardInterrupt


@pytest.fixture(scope="module")
def folders(ground):
    """A training that is complete, one that is not, and where copies of them go."""
    (one,) = build({**TRAINED, "updates": 3, "validate": {"every": 1, "sequences": 2}}, TRAINING, name="one")
    one.prepare().run(store=ground / "complete")
    with pytest.raises(KeyboardInterrupt):
        one.prepare().run(store=ground / "begun", report=stop_at_the_second, checkpoint_seconds=0)
    assert (ground / "begun/checkpoint.npz").exists()
    return ground


COPIES = itertools.count()


def copied(folders, name):
    target = folders / f"copy{next(COPIES)}"
    shutil.copytree(folders / name, target)
    return target


def read(folder):
    """Open it and go on with it, in Python and from the command line; errors are those of gradsim."""
    opened = None
    with deadline(folder), suppress(GradsimError):
        opened = gradsim.open_run(folder)
    with deadline(folder), suppress(GradsimError):
        gradsim.open_run(folder, allow_incomplete=True)
    with deadline(folder), suppress(GradsimError):
        gradsim.resume(folder, allow_changed=True)
    ends(["resume", folder.name])
    return opened


@short_and_long(8, 100)
@pytest.mark.parametrize("name", ["begun", "complete"])
def test_another_record(folders, cases, name):
    record = json.loads((folders / name / "run.json").read_text())

    @drawn(cases)
    @given(mutated(st.just(record), most=2))
    def each(case):
        folder = copied(folders, name)
        (folder / "run.json").write_text(json.dumps(jsonable(case[0])))
        read(folder)
        shutil.rmtree(folder)

    each()


def assert_right_or_an_error(opened, whole):
    """What chunks hold is read when it is used, and zarr compares it with a checksum."""
    try:
        values = opened.load()
    except Exception:  # of zarr, whatever it finds
        return
    xr.testing.assert_equal(values, gradsim.open_run(whole).load())


@short_and_long(8, 100)
@pytest.mark.parametrize("name", ["begun", "complete"])
def test_torn_and_missing_files(folders, cases, name):
    files = sorted(file.relative_to(folders / name) for file in (folders / name).rglob("*") if file.is_file())

    @drawn(cases)
    @given(st.data(), st.sampled_from(files), st.sampled_from(("torn", "torn", "gone", "folder", "empty")))
    def each(data, file, damage):
        folder = copied(folders, name)
        whole = (folder / file).read_bytes()
        (folder / file).unlink()
        match damage:
            case "torn":
                (folder / file).write_bytes(data.draw(torn_bytes(st.just(whole))))
            case "folder":
                (folder / file).mkdir()
            case "empty":
                (folder / file).touch()
        opened = read(folder)
        if opened is not None and file.suffix != ".json":
            assert_right_or_an_error(opened, folders / name)
        shutil.rmtree(folder)

    each()
