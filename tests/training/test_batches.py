"""Which sequences each update sees."""

from __future__ import annotations

import numpy as np
import pytest
from small import Labelled, Recall, Stream

from gradsim.errors import InputError
from gradsim.run.seeds import Seeds
from gradsim.training.batches import Batches
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import SGD


def chosen(task, updates, batch, *, stateful=False, seed=0, order=None):
    """The sequences (update, batch) of some updates, asked for in some order."""
    batches = Batches(task, batch, Seeds(seed), stateful)
    found = np.empty((updates, batch), dtype=int)
    for update in range(1, updates + 1) if order is None else order:
        batches.episode(update)
        found[update - 1] = task.chosen[-1]
    return found


@pytest.mark.parametrize("batch", [1, 2, 3, 7])
def test_each_epoch_sees_every_sequence_once_in_an_order_of_its_own(batch):
    seen = chosen(Labelled(), 7 * 3, batch).reshape(-1, 7)
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(7), (len(seen), 1)))
    assert len(set(map(tuple, seen))) == len(seen)


def test_streams_are_consecutive_and_read_side_by_side():
    seen = chosen(Stream(), 6, 2, stateful=True)  # 7 sequences: 2 streams of 3, and one is left out
    np.testing.assert_array_equal(seen, [[0, 3], [1, 4], [2, 5]] * 2)


@pytest.mark.parametrize("stateful", [False, True])
def test_a_batch_depends_on_its_update_and_the_seed_alone(stateful):
    forward = chosen(Stream(), 12, 3, stateful=stateful)
    backward = chosen(Stream(), 12, 3, stateful=stateful, order=range(12, 0, -1))
    np.testing.assert_array_equal(forward, backward)
    assert stateful or not np.array_equal(forward, chosen(Stream(), 12, 3, seed=1))


def test_a_task_without_end_draws_each_batch():
    task = Recall()
    batches = Batches(task, 3, Seeds(0), stateful=False)
    one, two, again = (batches.episode(u).inputs for u in (1, 2, 1))
    assert one.shape == (6, 3, 2)
    np.testing.assert_array_equal(one, again)
    assert not np.array_equal(one, two)


@pytest.mark.parametrize(
    ("setting", "epochs"),
    [
        ({"batch": 3, "epochs": 2}, [1, 1, 1, 2, 2]),  # 14 sequences in 4 2/3 batches
        ({"batch": 7, "epochs": 3}, [1, 2, 3]),
        ({"batch": 2, "epochs": 1}, [1, 1, 1, 1]),
        ({"batch": 2, "epochs": 2, "stateful": True}, [1, 1, 1, 2, 2, 2]),
        ({"batch": 3, "updates": 4}, [1, 1, 1, 2]),
    ],
)
def test_epochs_are_so_many_updates(setting, epochs):
    ds = train(Elman(1, 2), Stream(), optimizer=SGD(0.1), **setting)
    np.testing.assert_array_equal(ds.epoch, epochs)
    np.testing.assert_array_equal(ds["update"], np.arange(len(epochs)) + 1)


def test_a_task_without_end_has_no_epochs():
    ds = train(Elman(2, 2), Recall(), optimizer=SGD(0.1), updates=2, batch=2)
    assert "epoch" not in ds.variables


BAD = {
    "batch_too_large": (Stream(), {"batch": 8, "updates": 1}, r"at most 7, .* train sequences .*got 8"),
    "no_batch": (Stream(), {"batch": 0, "updates": 1}, r"batch should be greater than 0 \(got 0\)"),
    "not_consecutive": (
        Labelled(),
        {"batch": 2, "updates": 1, "stateful": True},
        "sequences of labelled do not follow each other",
    ),
    "stateful_without_end": (
        Recall(),
        {"batch": 2, "updates": 1, "stateful": True},
        "sequences of recall do not follow each other",
    ),
    "epochs_without_end": (Recall(), {"batch": 2, "epochs": 1}, "without end; give updates instead"),
    "neither": (Stream(), {"batch": 2}, "updates or epochs: exactly one"),
    "both": (Stream(), {"batch": 2, "updates": 1, "epochs": 1}, "updates or epochs: exactly one"),
    "no_updates": (Stream(), {"batch": 2, "updates": 0}, r"updates should be greater than 0 \(got 0\)"),
    "part_of_an_epoch": (
        Stream(),
        {"batch": 2, "epochs": 0.5},
        r"epochs should be a valid int.*got 0\.5",
    ),
    "true": (Stream(), {"batch": 2, "updates": True}, r"updates should be a valid integer.*got True"),
    "probe_too_large": (
        Stream(),
        {"batch": 2, "updates": 1, "record": {"every": 1, "batch": 4}},
        r"at most 3, .* validation sequences .*got 4",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_is_refused(case, tmp_path):
    task, setting, message = BAD[case]
    with pytest.raises(InputError, match=message):
        train(Elman(task.input_size, 2), task, optimizer=SGD(0.1), store=tmp_path / "run", **setting)
    assert not (tmp_path / "run").exists()
