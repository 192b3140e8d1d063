"""The file that a training goes on from."""

from __future__ import annotations

import io
import os
import pickle
import zipfile

import numpy as np
import pytest

from gradsim.data.store import CHECKPOINT
from gradsim.errors import StoreError
from gradsim.training import checkpoint
from gradsim.training.checkpoint import State

UNREADABLE = r"cannot read .*checkpoint\.npz.*begin again with force=True"


def some_state(ended="", **changes):
    setting = {
        "vector": np.array([1.0, np.pi, -0.0]),
        "slots": {"velocity": np.array([1e-310, np.inf, 2.0]), "mean": np.zeros(3)},
        "carried": np.ones((2, 3), dtype=np.float32),
        "best_vector": np.arange(3.0),
        "update": 7,
        "loss": 0.1,
        "best_loss": 1 / 3,
        "worse": 2,
        "ended": ended,
        "rows": {"train_loss": np.array([0.5, np.nan]), "learning_rate": np.ones((2, 1))},
    }
    return State(**setting | changes)


@pytest.mark.parametrize("ended", ["", "after all updates"])
def test_it_is_read_as_it_was_written(ended, tmp_path):
    checkpoint.save(tmp_path, some_state("other"))
    checkpoint.save(tmp_path, some_state(ended))
    found, state = checkpoint.load(tmp_path), some_state(ended)
    assert list(vars(found)) == list(vars(state))
    for name, value in vars(state).items():
        np.testing.assert_equal(getattr(found, name), value)
    assert (type(found.update), type(found.loss), type(found.ended)) == (int, float, str)
    assert found.carried.dtype == np.float32
    assert [p.name for p in tmp_path.iterdir()] == [CHECKPOINT]


def test_what_is_read_can_be_changed(tmp_path):
    checkpoint.save(tmp_path, some_state())
    checkpoint.load(tmp_path).slots["mean"] += 1


def test_no_slots_and_nothing_written(tmp_path):
    assert checkpoint.load(tmp_path) is None
    checkpoint.save(tmp_path, some_state(slots={}, rows={}))
    assert checkpoint.load(tmp_path).slots == checkpoint.load(tmp_path).rows == {}


def test_no_code_is_run_to_read_it(tmp_path):
    """Loading a pickle could run anything."""
    checkpoint.save(tmp_path, some_state())
    with np.load(tmp_path / CHECKPOINT, allow_pickle=False) as file:
        assert all(file[name].dtype.kind in "fiuU" for name in file)
    (tmp_path / CHECKPOINT).write_bytes(pickle.dumps(some_state()))
    with pytest.raises(StoreError, match=UNREADABLE):
        checkpoint.load(tmp_path)


PI = np.float64(np.pi).tobytes()
DAMAGE = {
    "empty": lambda content: b"",
    "half": lambda content: content[: len(content) // 2],
    "text": lambda content: b"gradsim",
    "one_number": lambda content: content.replace(PI, bytes(8)),
}


def with_header(content, shape):
    """An array that claims another shape."""
    header = np.lib.format.header_data_from_array_1_0(np.ones(3)) | {"shape": shape}
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, header)
    with zipfile.ZipFile(archive := io.BytesIO(content), "a") as members:
        members.writestr("slots/other.npy", file.getvalue() + bytes(24))
    return archive.getvalue()


DAMAGE |= {
    "a_terabyte": lambda content: with_header(content, (10**12,)),
    "negative": lambda content: with_header(content, (-3,)),
    "too_short": lambda content: with_header(content, (4,)),
}


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_only_a_plain_file_is_a_checkpoint(kind, tmp_path):
    file = tmp_path / CHECKPOINT
    checkpoint.save(tmp_path, some_state())
    file.rename(tmp_path / "elsewhere")
    if kind == "link":
        file.symlink_to(tmp_path / "elsewhere")
    elif kind == "pipe":
        os.mkfifo(file)
    else:
        file.mkdir()
    with pytest.raises(StoreError, match=r"cannot read .*checkpoint\.npz"):
        checkpoint.load(tmp_path)


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_named(damage, tmp_path):
    file = tmp_path / CHECKPOINT
    checkpoint.save(tmp_path, some_state())
    content = file.read_bytes()
    assert PI in content
    file.write_bytes(DAMAGE[damage](content))
    with pytest.raises(StoreError, match=UNREADABLE):
        checkpoint.load(tmp_path)


def test_other_arrays_are_no_checkpoint(tmp_path):
    np.savez(tmp_path / CHECKPOINT, weights=np.ones(3))
    with pytest.raises(StoreError, match=UNREADABLE):
        checkpoint.load(tmp_path)
