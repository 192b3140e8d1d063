"""Whole trainings next to a plain loop: what is recorded, update by update, and what is learnt and tested."""

from __future__ import annotations

import numpy as np
import plain
import pytest
from byhand import start, trained
from small import Labelled, Recall, Stream

import gradsim
from gradsim_cells import Elman
from gradsim_mitigations import ClipNorm
from gradsim_optimizers import SGD, Adam

OPTIMIZERS = {
    "sgd": (SGD(0.4), lambda: plain.Descent(0.4)),
    "momentum": (SGD(0.1, momentum=0.8), lambda: plain.Descent(0.1, 0.8)),
    "adam": (Adam(0.05), lambda: plain.PlainAdam(0.05)),
    "adam with means of its own": (
        Adam(0.03, beta1=0.5, beta2=0.9, epsilon=1e-3),
        lambda: plain.PlainAdam(0.03, 0.5, 0.9, 1e-3),
    ),
}
CLOSE = {"rtol": 1e-10, "atol": 1e-13}


def part(task, name):
    return task.take(name, np.arange(task.sequences[name]))


def both(task, optimizer, *, updates, batch, stateful=False, max_norm=None, **more):
    """The dataset of a training, and what the plain loop gives for each of its updates."""
    cell = Elman(task.input_size, 4)
    ours, theirs = OPTIMIZERS[optimizer]
    params = start(cell, task)
    ds = gradsim.train(
        cell,
        task,
        optimizer=ours,
        updates=updates,
        batch=batch,
        params=params,
        stateful=stateful,
        mitigations=[ClipNorm(max_norm)] if max_norm else [],
        **more,
    )
    done = ds.sizes["update"]
    seen = [task.take("train", chosen) for chosen in task.chosen[-done:]]
    carry = {"carry_until": task.sequences["train"] // batch} if stateful else {}
    rows = list(plain.train(params, seen, theirs(), max_norm=max_norm or np.inf, **carry))
    return ds, [(np.nan, np.nan, 1.0, params), *rows]


def same(ds, rows, last=None):
    """Compare what is recorded at every update, and the parameters after the last one."""
    loss, norm, factor, params = zip(*rows, strict=True)
    np.testing.assert_allclose(ds.train_loss, loss[1:], **CLOSE)
    np.testing.assert_allclose(ds.train_gradient_norm, norm[1:], **CLOSE)
    np.testing.assert_allclose(ds.train_gradient_factor, factor[1:], **CLOSE)
    for name, value in trained(ds).items():
        np.testing.assert_allclose(value, params[-1 if last is None else last][name], **CLOSE)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("max_norm", [None, 0.3])
@pytest.mark.parametrize("stateful", [False, True])
def test_losses_and_parameters_after_every_update(optimizer, max_norm, stateful):
    ds, rows = both(
        Stream(train=9, length=5, validation=5, test=4),
        optimizer,
        updates=8,
        batch=2,
        stateful=stateful,
        max_norm=max_norm,
        validate={"every": 2},
    )
    same(ds, rows)
    assert max_norm is None or (ds.train_gradient_factor < 1).any()
    task, streams = Stream(train=9, length=5, validation=5, test=4), 2 if stateful else None
    validation, test = part(task, "validation"), part(task, "test")
    losses = [plain.measured(rows[u][3], validation, streams)[0] for u in (0, 2, 4, 6, 8)]
    np.testing.assert_allclose(ds.validation_loss, losses, **CLOSE)
    assert ds.attrs["test_loss"] == pytest.approx(plain.measured(rows[8][3], test, streams)[0], rel=1e-10)
    assert "test_score" not in ds.attrs


@pytest.mark.parametrize("updates", range(1, 6))
def test_the_parameters_after_so_many_updates_of_classes(updates):
    same(*both(Labelled(test=3), "adam", updates=updates, batch=3))


@pytest.mark.parametrize("batch", [2, 3, 7])
def test_loss_and_score_of_classes_in_sequences_of_several_lengths(batch):
    task = Labelled(validation=5, test=6)
    ds, rows = both(task, "sgd", updates=6, batch=batch, max_norm=0.2, validate={"every": 4})
    same(ds, rows)
    for i, update in enumerate((0, 4, 6)):
        loss, score = plain.measured(rows[update][3], part(task, "validation"))
        np.testing.assert_allclose(ds.validation_loss[i], loss, **CLOSE)
        np.testing.assert_allclose(ds.validation_score[i], score, **CLOSE)
    loss, score = plain.measured(rows[6][3], part(task, "test"))
    assert ds.attrs["test_loss"] == pytest.approx(loss, rel=1e-10)
    assert ds.attrs["test_score"] == pytest.approx(score, rel=1e-10)


def test_fewer_sequences_are_validated_on_and_all_are_tested_on():
    task = Labelled(validation=5, test=4)
    ds, rows = both(task, "sgd", updates=4, batch=2, validate={"every": 4, "sequences": 2})
    first = task.take("validation", np.arange(2))
    losses, scores = zip(*(plain.measured(rows[u][3], first) for u in (0, 4)), strict=True)
    np.testing.assert_allclose(ds.validation_loss, losses, **CLOSE)
    np.testing.assert_allclose(ds.validation_score, scores, **CLOSE)
    assert ds.attrs["test_loss"] == pytest.approx(plain.measured(rows[4][3], part(task, "test"))[0])
    more = {"every": 4, "sequences": 99}
    whole, _ = both(task, "sgd", updates=4, batch=2, validate=more)
    np.testing.assert_allclose(
        whole.validation_loss[0], plain.measured(rows[0][3], part(task, "validation"))[0]
    )


def test_with_patience_the_best_parameters_are_those_that_are_kept_and_tested():
    task = Labelled(train=4, test=4)
    ds, rows = both(task, "sgd", updates=80, batch=2, validate={"every": 5}, stop={"patience": 2})
    losses = [plain.measured(row[3], part(task, "validation"))[0] for row in rows[::5]]
    np.testing.assert_allclose(ds.validation_loss, losses, **CLOSE)
    best = int(np.argmin(losses))
    assert 0 < best == len(losses) - 3
    same(ds, rows, last=5 * best)
    assert ds.attrs["trained_update"] == 5 * best < ds.sizes["update"] == 5 * (len(losses) - 1)
    loss, score = plain.measured(rows[5 * best][3], part(task, "test"))
    assert ds.attrs["test_loss"] == pytest.approx(loss, rel=1e-10)
    assert ds.attrs["test_score"] == pytest.approx(score, rel=1e-10)
    assert loss != pytest.approx(plain.measured(rows[-1][3], part(task, "test"))[0], rel=1e-6)


def test_without_patience_the_last_parameters_are_kept_and_tested():
    task = Labelled(train=2, test=4)
    ds, rows = both(task, "sgd", updates=80, batch=2, validate={"every": 5}, stop={"loss_below": -1.0})
    losses = [plain.measured(row[3], part(task, "validation"))[0] for row in rows[::5]]
    assert np.argmin(losses) < len(losses) - 1
    same(ds, rows)
    assert ds.attrs["trained_update"] == 80
    assert ds.attrs["test_loss"] == pytest.approx(plain.measured(rows[-1][3], part(task, "test"))[0])


@pytest.mark.parametrize(
    ("task", "validate"),
    [(Labelled(test=2), None), (Labelled(), {"every": 1}), (Recall(), {"every": 1, "sequences": 4})],
    ids=["unvalidated", "no test part", "endless"],
)
def test_there_is_no_test_without_validation_or_without_a_part_for_it(task, validate):
    ds = gradsim.train(Elman(2, 3), task, optimizer=SGD(0.1), updates=1, batch=2, validate=validate)
    assert not {"test_loss", "test_score"} & ds.attrs.keys()


def test_a_task_without_end_is_validated_on_a_thousand_sequences_unless_told():
    drawn = []

    class Counted(Recall):
        def sample(self, rng, batch):
            drawn.append(batch)
            return super().sample(rng, batch)

    given = {"optimizer": SGD(0.1), "updates": 1, "batch": 300}
    gradsim.train(Elman(2, 2), Counted(), **given, validate={"every": 1})
    assert drawn[-4:] == [300, 300, 300, 100]
    gradsim.train(Elman(2, 2), Counted(), **given, validate={"every": 1, "sequences": 310})
    assert drawn[-2:] == [300, 10]


def test_a_part_that_is_smaller_than_the_batch_is_read_in_fewer_streams():
    task = Stream(train=12, validation=3, test=2)
    ds, rows = both(task, "adam", updates=6, batch=4, stateful=True, validate={"every": 6})
    same(ds, rows)
    losses = [plain.measured(rows[u][3], part(task, "validation"), streams=3)[0] for u in (0, 6)]
    np.testing.assert_allclose(ds.validation_loss, losses, **CLOSE)
    assert ds.attrs["test_loss"] == pytest.approx(plain.measured(rows[6][3], part(task, "test"), 2)[0])
