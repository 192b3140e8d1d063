"""The checks of what a task draws, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from examples import Follow
from proofs import WRONG, proven

from gradsim import Episode, FiniteTask
from gradsim.testing import check_task
from gradsim.testing.task.episodes import CHECKS


class AnyNumber(Follow):
    output_size = None


class FloatSize(Follow):
    @property
    def output_size(self):
        return np.float64(2)


class SamplesAnyhow(Follow):
    def sample(self, rng, batch):
        return super().sample(np.random.default_rng(), batch)


class TurnedWeights(Follow):
    def sample(self, rng, batch):
        return replace(super().sample(rng, batch), weights=np.ones((batch, self.length)))


@dataclass(frozen=True, eq=False)
class Few(FiniteTask):
    """Twelve sequences, eight of them for training; good."""

    name = "proof_few"
    input_size = 2
    output_size = 2

    length: int = 5

    @property
    def sequences(self):
        return {"train": 8, "validation": 4}

    def take(self, part, chosen):
        whole = np.random.default_rng(["train", "validation"].index(part)).standard_normal(
            (self.length, 8, 2)
        )
        x = whole[:, chosen]
        return Episode(x, x.copy(), np.ones(x.shape[:2]))

    def loss(self, outputs, targets, xp):
        return xp.sum((outputs - targets) ** 2, axis=-1)


class NoTrain(Few):
    @property
    def sequences(self):
        return {"learn": 8, "validation": 4}


class EmptyPart(Few):
    @property
    def sequences(self):
        return {"train": 8, "validation": 0}


class Perhaps(Few):
    consecutive = None


class TakesAnother(Few):
    def take(self, part, chosen):
        return super().take(part, np.sort(chosen))


class TakesAnyhow(Few):
    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return replace(episode, weights=episode.weights * (WRONG if len(chosen) == 2 else 1))


class RaggedParts(Few):
    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return episode if part == "train" else Episode(*(getattr(episode, n)[1:] for n in ARRAYS))


ARRAYS = ("inputs", "targets", "weights")


class TakesTurned(Few):
    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return episode if part == "train" else replace(episode, weights=episode.weights.T)


class Repeats(Few):
    def sample(self, rng, batch):
        self.available("train", batch)
        return self.take("train", rng.integers(0, 8, batch))


class Endless(Few):
    def sample(self, rng, batch):
        return self.take("train", rng.permutation(np.arange(batch) % 8))


PROOFS = [
    ("sizes", FloatSize()),
    ("sizes", AnyNumber()),
    ("sample_from_rng", SamplesAnyhow()),
    ("episode_shapes", TurnedWeights()),
    ("parts", NoTrain()),
    ("parts", EmptyPart()),
    ("parts", Perhaps()),
    ("takes_sequences", TakesAnother()),
    ("takes_sequences", TakesAnyhow()),
    ("takes_sequences", RaggedParts()),
    ("takes_sequences", TakesTurned()),
    ("samples_the_training_part", Repeats()),
    ("samples_the_training_part", Endless()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_finite_task_passes():
    check_task(Few())
