"""Tasks on real data: published counts, masks, baselines by brute force."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

import gradsim
from gradsim.errors import InputError
from gradsim_cells import Elman
from gradsim_tasks import Digits, ElNino, JapaneseVowels, Sunspots
from gradsim_tasks.el_nino import monthly
from gradsim_tasks.sunspots import yearly

# Series that ship along.


def test_sunspots_are_the_published_numbers():
    years, numbers = yearly()
    assert (years == np.arange(1700, 2009)).all()
    assert (numbers[0], numbers[-1], numbers.max(), years[numbers.argmax()]) == (5, 2.9, 190.2, 1957)
    assert numbers.mean() == pytest.approx(49.75, abs=0.01)


def test_sunspots_are_one_window_if_it_is_long():
    episode = Sunspots(length=308).sample(np.random.default_rng(0), 1)
    _, numbers = yearly()
    np.testing.assert_allclose(episode.inputs[:, 0, 0], ((numbers - numbers.mean()) / numbers.std())[:-1])
    np.testing.assert_array_equal(episode.targets[:-1], episode.inputs[1:])
    assert Sunspots(length=20).sequences == {"train": 10, "validation": 2, "test": 2}
    with pytest.raises(InputError, match="309 rows"):
        Sunspots(length=309)


def test_el_nino_has_the_great_warm_spells():
    """The strongest of the 20th century: 1982-83 and 1997-98. The sea is warmest in March."""
    warmth = monthly() - monthly().mean(axis=0)
    assert warmth.shape == (61, 12)
    strongest = 1950 + np.argsort(warmth.max(axis=1))[-4:]
    assert set(strongest) == {1982, 1983, 1997, 1998}
    assert monthly().mean(axis=0).argmax() == 2
    assert monthly().mean(axis=0).argmin() in (7, 8)


def test_the_last_value_is_the_baseline_of_a_series():
    task = ElNino(length=12)
    known = monthly().ravel()[: round(0.7 * 732)]
    z = ((monthly().ravel() - known.mean()) / known.std())[round(0.7 * 732) : round(0.85 * 732)]
    assert task.sequences["validation"] == 9
    expected = np.mean([(z[t + 1] - z[t]) ** 2 for t in range(9 * 12)])
    assert task.baseline.loss == pytest.approx(expected, rel=1e-12)


# Digits.


def test_digits_have_the_published_counts():
    """UCI, optdigits.names: the test set."""
    task = Digits()
    targets = np.concatenate([task.whole[part].targets[-1] for part in ("train", "validation", "test")])
    assert np.bincount(targets).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert task.sequences == {"train": 1257, "validation": 270, "test": 270}


def test_digits_come_pixel_by_pixel_or_row_by_row():
    row = gzip.decompress(_data_file("scikit-learn", "digits.csv.gz").read_bytes()).split()[0]
    *pixels, digit = map(int, row.split(b","))
    first = Digits().take("train", np.array([0]))
    assert first.inputs.shape == (64, 1, 1)
    np.testing.assert_array_equal(16 * first.inputs[:, 0, 0], pixels)
    assert first.targets[-1] == digit
    by_row = Digits(by="row").take("train", np.array([0]))
    np.testing.assert_array_equal(by_row.inputs[:, 0], first.inputs.reshape(8, 8))


def test_digits_are_asked_for_at_the_end_only():
    episode = Digits().take("test", np.arange(5))
    assert (episode.weights[-1] == 1).all()
    assert not episode.weights[:-1].any()


def test_most_frequent_class_by_brute_force():
    task = Digits()
    counts = Counter(task.whole["train"].targets[-1].tolist())
    asked = task.whole["validation"].targets[-1].tolist()
    losses = [-math.log((counts[digit] + 1) / (1257 + 10)) for digit in asked]
    best = max(counts, key=counts.get)
    assert task.baseline.name == "most frequent class"
    assert task.baseline.loss == pytest.approx(sum(losses) / len(losses), rel=1e-12)
    assert task.baseline.score == pytest.approx(asked.count(best) / len(asked), rel=1e-12)


@pytest.mark.parametrize("task", [Digits, JapaneseVowels])
def test_a_missing_package_is_named_with_the_way_to_get_it(task, monkeypatch):
    from gradsim_tasks import digits, japanese_vowels

    digits.images.cache_clear()
    japanese_vowels.utterances.cache_clear()
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r'pip install "gradsim\[data\]"'):
        task()


def test_a_package_that_has_moved_its_file_is_named(monkeypatch, tmp_path):
    from gradsim_tasks import digits

    digits.images.cache_clear()
    monkeypatch.setattr(util, "find_spec", lambda name: _Spec([str(tmp_path)]))
    with pytest.raises(InputError, match="the installed sklearn has no file datasets/data/digits"):
        Digits()


class _Spec:
    def __init__(self, places):
        self.submodule_search_locations = places


# Japanese vowels.


def test_japanese_vowels_have_the_published_sizes():
    """UCI, JapaneseVowels.data: 30 utterances of each man, and then 31, 35, ... of 7 to 29 frames."""
    task = JapaneseVowels()
    assert (task.input_size, task.output_size) == (12, 9)
    speakers = {part: np.bincount(episode.targets[0]).tolist() for part, episode in task.whole.items()}
    assert speakers["test"] == [31, 35, 88, 44, 29, 24, 40, 50, 29]
    assert np.add(speakers["train"], speakers["validation"]).tolist() == 9 * [30]
    assert speakers["validation"] == 9 * [5]
    lengths = np.concatenate([_ends(episode) for episode in task.whole.values()])
    assert (lengths.min(), lengths.max(), lengths.sum()) == (7, 29, 4274 + 5687)
    assert task.baseline.score == pytest.approx(1 / 9)
    assert task.baseline.loss == pytest.approx(math.log(9))


def test_japanese_vowels_are_standardised_by_the_training_part():
    whole = JapaneseVowels(asked="every").whole["train"]
    frames = whole.inputs[whole.weights != 0]
    np.testing.assert_allclose(frames.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(frames.std(axis=0), 1, rtol=1e-12)


def test_the_first_utterance_is_that_of_the_file():
    path = _data_file("sktime", "JapaneseVowels_TRAIN.ts")
    line = next(text for text in path.read_text().splitlines() if text and text[0] not in "#@")
    *channels, speaker = line.split(":")
    values = np.array([channel.split(",") for channel in channels], dtype=float)
    episode = JapaneseVowels().take("train", np.array([0]))
    ours = episode.inputs[: values.shape[1], 0].T
    assert episode.targets[0, 0] == int(speaker) - 1
    for raw, scaled in zip(values, ours, strict=True):  # one scale and shift for each coefficient
        np.testing.assert_allclose(np.polyval(np.polyfit(raw, scaled, 1), raw), scaled, atol=1e-9)


@pytest.mark.parametrize("asked", ["last", "every"])
def test_what_stands_behind_the_end_of_an_utterance_changes_no_loss(asked):
    task = JapaneseVowels(asked=asked)
    episode = task.take("test", np.array([3, 100, 200]))
    np.testing.assert_allclose(episode.weights.sum(axis=0), 1, rtol=1e-12)
    found = [_loss_and_gradient(inputs, episode) for inputs in (episode.inputs, _other_padding(episode))]
    assert found[0][0] == found[1][0]
    np.testing.assert_array_equal(found[0][1], found[1][1])


def test_an_utterance_is_asked_at_its_last_frame_or_at_every_one():
    ends = _ends(JapaneseVowels().whole["train"])
    every = JapaneseVowels(asked="every").whole["train"].weights
    assert ((every > 0).sum(axis=0) == ends).all()
    assert (np.argmax(JapaneseVowels().whole["train"].weights, axis=0) == ends - 1).all()


def _ends(episode):
    """The number of frames of each utterance: padding is exactly zero, and frames are not."""
    return (episode.inputs != 0).any(axis=-1).sum(axis=0)


def _other_padding(episode):
    behind = np.arange(29)[:, None] >= _ends(episode)
    return np.where(behind[..., None], 7.0, episode.inputs)


def _loss_and_gradient(inputs, episode):
    class Given(JapaneseVowels):
        def sample(self, rng, batch):
            return gradsim.Episode(inputs, episode.targets, episode.weights)

    ds = gradsim.simulate(Elman(12, 4), task=Given(), batch=3, record=["gradient", "loss"], rng=1)
    return ds.attrs["loss"], ds.gradient_W.values


def _data_file(distribution, name):
    return next(Path(file.locate()) for file in metadata.files(distribution) if file.name == name)
