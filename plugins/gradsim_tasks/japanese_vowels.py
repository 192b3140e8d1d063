"""Recognising a speaker by two vowels."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Literal

import numpy as np

from gradsim import Episode
from gradsim_tasks.arrays import Classified
from gradsim_tasks.files import packaged

LONGEST = 29
PER_SPEAKER = 30


@functools.cache
def utterances(file):
    """The utterances of the file "TRAIN" or "TEST", each (frame, 12), and the speaker of each, 0..8."""
    path = packaged("sktime", f"datasets/data/JapaneseVowels/JapaneseVowels_{file}.ts", "JapaneseVowels")
    _, _, data = path.read_text().partition("@data\n")
    lines = [line.split(":") for line in data.splitlines()]
    frames = [np.array([c.split(",") for c in channels], dtype=np.float64).T for *channels, _ in lines]
    return frames, np.array([int(speaker) - 1 for *_, speaker in lines])


@dataclass(frozen=True, eq=False)
class JapaneseVowels(Classified):
    """Say which of nine men speaks the vowels /ae/.

    An utterance has 7 to 29 frames of 12 LPC cepstrum coefficients, standardised by the mean and standard
    deviation of all frames for training; it is padded to 29 steps with zeros of no weight. The speaker is
    asked at the last frame, or with `asked="every"` at every frame alike. Of the 30 utterances by each
    speaker in the file for training the last 5 are for validation; that makes 225 for training and 45 for
    validation. The 370 for the test were recorded on other occasions. The baseline is "most frequent class".

    Kudo, Toyama & Shimbo (1999), Multidimensional curve classification using passing-through regions;
    UCI repository (CC BY 4.0), read from sktime.
    """

    name = "japanese_vowels"
    input_size = 12
    output_size = 9

    asked: Literal["last", "every"] = "last"

    def __post_init__(self):
        super().__post_init__()
        utterances("TRAIN")

    @functools.cached_property
    def whole(self):
        frames, speakers = utterances("TRAIN")
        late = np.arange(len(frames)) % PER_SPEAKER >= PER_SPEAKER - 5
        parts = {"train": _those(frames, speakers, ~late), "validation": _those(frames, speakers, late)}
        known = np.concatenate(parts["train"][0])
        parts["test"] = utterances("TEST")
        return {n: self._padded(*part, known.mean(axis=0), known.std(axis=0)) for n, part in parts.items()}

    def _padded(self, frames, speakers, mean, spread):
        inputs = np.zeros((LONGEST, len(frames), 12))
        weights = np.zeros((LONGEST, len(frames)))
        for i, one in enumerate(frames):
            inputs[: len(one), i] = (one - mean) / spread
            if self.asked == "every":
                weights[: len(one), i] = 1 / len(one)
            else:
                weights[len(one) - 1, i] = 1
        return Episode(inputs, np.broadcast_to(speakers, weights.shape), weights)


def _those(frames, speakers, chosen):
    return [frames[i] for i in np.flatnonzero(chosen)], speakers[chosen]
