"""The checks of a task's loss, score and baseline, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from examples import Follow
from proofs import WRONG, proven, wrong_tanh

from gradsim import Baseline, Task
from gradsim.testing import check_task
from gradsim.testing.task.losses import CHECKS


class WholeLoss(Follow):
    def loss(self, outputs, targets, xp):
        return xp.sum((outputs - targets) ** 2)


class WritesOutputs(Follow):
    def loss(self, outputs, targets, xp):
        value = super().loss(outputs, targets, xp)
        if isinstance(outputs, np.ndarray):
            outputs *= WRONG
        return value


class LossOfAll(Follow):
    def loss(self, outputs, targets, xp):
        value = super().loss(outputs, targets, xp)
        return value + 0.001 * xp.mean(value)


class WrongLoss(Follow):
    def loss(self, outputs, targets, xp):
        return xp.sum(wrong_tanh(outputs - targets, xp), axis=-1)


class LossOverflows(Follow):
    def loss(self, outputs, targets, xp):
        return xp.log(xp.sum(xp.exp(outputs - targets), axis=-1))


@dataclass(frozen=True, eq=False)
class Unwritable(Follow):
    """Its parameters cannot be written into a dataset."""

    @property
    def parameters(self):
        return {"weights": {"of": np.ones(2)}}


@dataclass(frozen=True, eq=False)
class Scored(Follow):
    """Tells how often the sign is right; good."""

    metric = "signs"

    @property
    def baseline(self):
        return Baseline("zero", 2.0, 0.0)

    def score(self, outputs, targets):
        return (outputs * targets > 0).mean(axis=-1)


class NoScore(Scored):
    score = Task.score


class NoMetric(Scored):
    metric = None
    baseline = None


class WholeScore(Scored):
    def score(self, outputs, targets):
        return super().score(outputs, targets).mean()


class ScoreWrites(Scored):
    def score(self, outputs, targets):
        value = super().score(outputs, targets)
        targets *= WRONG
        return value


class ScoreOfAll(Scored):
    def score(self, outputs, targets):
        value = super().score(outputs, targets)
        return value + 0.001 * value.mean()


class NamelessBaseline(Scored):
    @property
    def baseline(self):
        return replace(super().baseline, name="")


class InfiniteBaseline(Scored):
    @property
    def baseline(self):
        return replace(super().baseline, loss=np.inf)


class BaselineWithoutScore(Scored):
    @property
    def baseline(self):
        return replace(super().baseline, score=None)


class BaselineWithoutMetric(Follow):
    @property
    def baseline(self):
        return Baseline("zero", 2.0, 0.0)


PROOFS = [
    ("loss_shape", WholeLoss()),
    ("loss_is_pure", WritesOutputs()),
    ("loss_by_output", LossOfAll()),
    ("loss_gradient", WrongLoss()),
    ("loss_finite_at_extremes", LossOverflows()),
    ("runs", Unwritable()),
    ("score_shape", NoScore()),
    ("score_shape", NoMetric()),
    ("score_shape", WholeScore()),
    ("score_is_pure", ScoreWrites()),
    ("score_by_output", ScoreOfAll()),
    ("baseline_is_stated", NamelessBaseline()),
    ("baseline_is_stated", InfiniteBaseline()),
    ("baseline_is_stated", BaselineWithoutScore()),
    ("baseline_is_stated", BaselineWithoutMetric()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_score_passes():
    check_task(Scored())
