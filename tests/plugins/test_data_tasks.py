"""Tasks on real data and on a user's own: published counts, masks, baselines by brute force, mistakes."""

from __future__ import annotations

import gzip
import math
from collections import Counter
from importlib import metadata, util
from pathlib import Path

import numpy as np
import pytest

import gradsim
from gradsim.contracts import registry
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import checks_of
from gradsim_cells import Elman
from gradsim_tasks import Csv, Digits, ElNino, JapaneseVowels, Npz, Sunspots, Text
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


# Text.

STORY = "the cat sat on the mat; the dog sat on the cat. " * 100


@pytest.fixture
def book(tmp_path):
    path = tmp_path / "book.txt"
    path.write_text(STORY + "\N{SNOWMAN}" + STORY, encoding="utf-8")
    return str(path)


def test_text_says_the_next_character(book):
    task = Text(path=book, length=20)
    assert task.consecutive
    assert task.alphabet == "".join(sorted(set(STORY)))
    assert "".join((task.alphabet + "?")[i] for i in task.symbols) == STORY + "?" + STORY
    two = task.take("train", np.array([0, 1]))
    said = ["".join(task.alphabet[i] for i in column) for column in two.inputs.argmax(axis=-1).T]
    assert said == [STORY[:20], STORY[20:40]]
    assert (two.inputs.sum(axis=-1) == 1).all()
    assert "".join(task.alphabet[i] for i in two.targets.T.ravel()) == STORY[1:41]
    assert (two.weights == 1 / 20).all()


def test_the_parts_of_a_text_follow_each_other(book):
    task = Text(path=book, length=20)
    assert task.parts == {"train": (0, 8641), "validation": (8641, 9121), "test": (9121, 9601)}
    assert task.sequences == {"train": 8640 // 20, "validation": 479 // 20, "test": 479 // 20}
    first = task.take("validation", np.array([0])).inputs[0, 0].argmax()
    assert task.alphabet[first] == (STORY + "?" + STORY)[8641]


def test_a_text_without_rare_characters_is_its_own_alphabet(book):
    assert Text(path=book, min_count=1).alphabet == "".join(sorted({*STORY, "\N{SNOWMAN}"}))
    assert Text(path=book, min_count=1).input_size == len(set(STORY)) + 2


def test_unigram_by_brute_force():
    task = Text(length=50)
    text = "".join((task.alphabet + "\0")[i] for i in task.symbols)
    train, held = text[: round(0.9 * len(text))], text[round(0.9 * len(text)) : round(0.95 * len(text))]
    asked = held[1 : 50 * ((len(held) - 1) // 50) + 1]
    counts, classes = Counter(train), len(task.alphabet) + 1
    losses = [-math.log((counts[c] + 1) / (len(train) + classes)) for c in asked]
    assert task.baseline.name == "unigram"
    assert task.baseline.loss == pytest.approx(sum(losses) / len(losses), rel=1e-10)
    assert task.baseline.score == pytest.approx(asked.count(" ") / len(asked), rel=1e-10)
    assert 3 < task.baseline.loss < 3.5  # English in ASCII: about 4.7 bits


def test_without_a_path_the_text_is_that_of_python():
    from pydoc_data.topics import topics

    symbols = Text().symbols
    assert len(symbols) == sum(map(len, topics.values())) + len(topics) - 1
    assert Text().parameters["path"] is None


def test_a_run_on_a_text(book):
    ds = gradsim.simulate(
        Elman(Text(path=book).input_size, 4), task=Text(path=book, length=10), record=["loss"]
    )
    assert ds.attrs["loss"] > 0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "length should be below 0, the characters in its shortest part"),
        (b"a", r"length should be below 1, .*\(got 1\); or use a longer text than its 1"),
        (b"abc\xff", r"byte 3 \(the first is 0\) is 0xff, which is not UTF-8"),
        (bytes(range(32, 127)) * 40, "no character is there min_count=50 times"),
    ],
)
def test_texts_that_cannot_be_used(content, message, tmp_path):
    (tmp_path / "bad.txt").write_bytes(content)
    with pytest.raises(InputError, match=rf"Text: .*bad.txt: {message}"):
        Text(path=str(tmp_path / "bad.txt"), min_count=50)


@pytest.mark.parametrize("task", [Text, Csv, Npz])
def test_a_missing_file_is_named(task):
    with pytest.raises(InputError, match=f"{task.__name__}: nowhere: it cannot be read: No such file"):
        task(path="nowhere")


# Tables.

TABLE = """time,wind,station,rain
2024-01-01,1.5,A,0
2024-01-02,2.5,A,10
2024-01-03,0.5,B,20
2024-01-04,1,B,0
2024-01-05,3,A,5
2024-01-06,2,A,15
"""
NUMBERS = np.array([[1.5, 0], [2.5, 10], [0.5, 20], [1, 0], [3, 5], [2, 15]])


@pytest.fixture
def table(tmp_path):
    def write(text=TABLE, **encoding):
        path = tmp_path / "weather.csv"
        path.write_text(text, **({"encoding": "utf-8"} | encoding))
        return str(path)

    return write


def short(path, **parameters):
    return Csv(path=path, length=2, split=(1.0, 0.0, 0.0), **parameters)


def test_all_numbers_of_a_table_forecast_its_last_column(table):
    task = short(table())
    z = (NUMBERS - NUMBERS.mean(axis=0)) / NUMBERS.std(axis=0)
    episode = task.take("train", np.array([0, 1]))
    assert task.columns == ("wind", "rain")
    np.testing.assert_allclose(episode.inputs, np.stack([z[0:2], z[2:4]], axis=1), rtol=1e-12)
    np.testing.assert_allclose(episode.targets[..., 0], np.stack([z[1:3, 1], z[3:5, 1]], axis=1), rtol=1e-12)


def test_columns_can_be_chosen(table):
    task = short(table(), inputs=("rain",), targets=("wind", "rain"))
    assert (task.input_size, task.output_size) == (1, 2)
    z = (NUMBERS - NUMBERS.mean(axis=0)) / NUMBERS.std(axis=0)
    episode = task.take("train", np.array([1]))
    np.testing.assert_allclose(episode.inputs[:, 0], z[2:4, 1:], rtol=1e-12)
    np.testing.assert_allclose(episode.targets[:, 0], z[3:5], rtol=1e-12)
    assert short(table(), targets=("wind",)).input_size == 2


@pytest.mark.parametrize(
    "text",
    [
        TABLE.replace(",", ";"),
        TABLE.replace(",", "\t"),
        TABLE.replace("\n", "\r\n"),
        TABLE.replace(",", " , "),
        "\ufeff" + TABLE,
        TABLE + "\n\n",
        TABLE.replace("A", '"A, the\nfirst"'),
        "\n".join(f"{i if i else ''},{line}" for i, line in enumerate(TABLE.splitlines())),
    ],
)
def test_tables_in_other_hands(table, text):
    np.testing.assert_array_equal(short(table(text, newline="")).values(), NUMBERS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the first line should name the columns \(it is \[\]\)"),
        (TABLE.partition("\n")[2], "the first line should name the columns"),
        (TABLE.replace("wind", "rain"), "the column 'rain' is there 2 times; rename one"),
        (TABLE.replace("20\n", "\n"), "line 4, column 'rain': there is nothing; fill it in"),
        (TABLE.replace("20\n", "nan\n"), "line 4, column 'rain': 'nan' is no finite number"),
        (TABLE.replace("1.5", "n/a"), "line 2, column 'wind': 'n/a' is no finite number"),
        (TABLE.replace("B,20", "B"), "line 4 has 3 entries for 4 columns"),
        ("a,b\nx,y\n", "no column holds numbers; there are 'a', 'b'"),
        ("a,b\n", "no column holds numbers"),
        (TABLE + '"' + "x" * 200_000, r"line 8: field larger than field limit"),
    ],
)
def test_tables_that_cannot_be_used(table, text, message):
    with pytest.raises(InputError, match=rf"Csv: .*weather.csv: {message}"):
        short(table(text))


def test_a_table_in_another_encoding_is_refused(table):
    with pytest.raises(InputError, match=r"byte 8 \(the first is 0\) is 0xe9"):
        short(table("tim,temp\xe9\n1,2\n", encoding="latin-1"))


def test_columns_that_a_table_does_not_have(table):
    with pytest.raises(UnknownNameError, match=r"column of .*weather.csv 'winds'; did you mean 'wind'"):
        short(table(), targets=("winds",))
    with pytest.raises(InputError, match=r"each name one column or more, once \(got \(\)\)"):
        short(table(), inputs=())
    with pytest.raises(InputError, match=r"line 2, column 'station': 'A' is no finite number"):
        short(table(), targets=("station",))


def test_a_table_that_is_too_short(table):
    with pytest.raises(InputError, match=r"Csv: length \+ ahead should be at most 6, .* has 6 rows"):
        Csv(path=table(), length=6)


# Arrays.

RNG = np.random.default_rng(0)
INPUTS = RNG.standard_normal((5, 20, 3))
CLASSES = RNG.integers(0, 4, (5, 20))
VALUES = RNG.standard_normal((5, 20, 2))
WEIGHTS = (np.arange(5)[:, None] < RNG.integers(2, 6, 20)) * 0.5


@pytest.fixture
def arrays(tmp_path):
    def write(**given):
        np.savez(tmp_path / "data.npz", **given)
        return str(tmp_path / "data.npz")

    return write


def test_whole_numbers_are_classes(arrays):
    task = Npz(arrays(inputs=INPUTS, targets=CLASSES.astype(np.uint8)))
    assert (task.input_size, task.output_size, task.metric) == (3, 4, "accuracy")
    assert task.sequences == {"train": 14, "validation": 3, "test": 3}
    episode = task.take("test", np.array([2, 0]))
    np.testing.assert_array_equal(episode.inputs, INPUTS[:, [19, 17]])
    np.testing.assert_array_equal(episode.targets, CLASSES[:, [19, 17]])
    assert (episode.weights == 1 / 5).all()
    said = np.log([0.1, 0.2, 0.3, 0.4])
    assert task.loss(said, np.array(1), np) == pytest.approx(-math.log(0.2))
    assert task.score(said, np.array(3)) == 1


def test_other_numbers_have_the_squared_error(arrays):
    task = Npz(arrays(inputs=INPUTS, targets=VALUES, weights=WEIGHTS))
    assert (task.output_size, task.metric) == (2, None)
    assert task.loss(np.array([1.0, 3.0]), np.zeros(2), np) == 5
    mean = sum(WEIGHTS[t, b] * VALUES[t, b] for t in range(5) for b in range(14)) / WEIGHTS[:, :14].sum()
    errors = [WEIGHTS[t, b] * ((VALUES[t, b] - mean) ** 2).mean() for t in range(5) for b in range(14, 17)]
    assert task.baseline.name == "mean"
    assert task.baseline.loss == pytest.approx(sum(errors) / 3, rel=1e-12)


def test_a_file_can_say_which_sequence_is_for_what(arrays):
    part = np.array(["test", "train"] * 10)
    task = Npz(arrays(inputs=INPUTS, targets=CLASSES, weights=WEIGHTS, part=part))
    assert task.sequences == {"train": 10, "test": 10}
    np.testing.assert_array_equal(task.take("train", np.array([3])).inputs[:, 0], INPUTS[:, 7])
    # Without a validation part the baseline is for the training part, and counts what is asked there only.
    asked = [(t, b) for b in range(1, 20, 2) for t in range(5) if WEIGHTS[t, b]]
    counts = Counter(CLASSES[place] for place in asked)
    losses = [0.5 * -math.log((counts[CLASSES[place]] + 1) / (len(asked) + 4)) for place in asked]
    assert task.baseline.loss == pytest.approx(sum(losses) / 10, rel=1e-12)
    assert task.baseline.score == pytest.approx(max(counts.values()) / len(asked), rel=1e-12)


BAD_ARRAYS = [
    ({"inputs": INPUTS[0]}, r"inputs should have the axes .* \(got float64 of shape \(20, 3\)\)"),
    ({"inputs": INPUTS[:0]}, r"inputs should have .* none of them empty .*\(0, 20, 3\)"),
    ({"inputs": INPUTS.astype("U9")}, "inputs should have real numbers .got <U9"),
    ({"inputs": INPUTS.astype(object)}, "inputs cannot be read .Object arrays"),
    (
        {"inputs": np.where(np.arange(3) == 2, np.nan, INPUTS)},
        r"inputs\[0, 0, 2\] is nan, .* first of 100",
    ),
    ({"targets": CLASSES[0]}, r"targets should have the shape \(time, sequence\) = \(5, 20\)"),
    ({"targets": VALUES[..., 0]}, r"targets should have the shape \(5, 20, 'output'\)"),
    ({"targets": CLASSES - 1}, r"targets: classes should be 0 or more \(one is -1\)"),
    ({"targets": VALUES.astype(complex)}, "targets should have real numbers .got complex128"),
    ({"targets": np.full_like(VALUES, np.inf)}, r"targets\[0, 0, 0\] is inf"),
    ({"weights": WEIGHTS.T}, r"weights should have the shape .* \(got float64 of shape \(20, 5\)\)"),
    (
        {"weights": WEIGHTS * (np.arange(20) != 6)},
        "weights should be .* not all 0.* sequence 6 are not",
    ),
    ({"weights": WEIGHTS - (np.arange(20) == 4)}, "weights should be 0 or more.* sequence 4 are not"),
    ({"part": np.array(["train"])}, r"part should have the shape \(sequence,\) = \(20,\)"),
    ({"part": np.array(20 * ["test"])}, "no sequence is for training"),
]


@pytest.mark.parametrize(("wrong", "message"), BAD_ARRAYS)
def test_arrays_that_cannot_be_used(arrays, wrong, message):
    with pytest.raises(InputError, match=f"Npz: .*data.npz: {message}"):
        Npz(arrays(**{"inputs": INPUTS, "targets": CLASSES} | wrong))


def test_arrays_that_are_not_there(arrays):
    with pytest.raises(InputError, match="it has no inputs and no targets, but nothing"):
        Npz(arrays())
    with pytest.raises(InputError, match="it has no targets, but inputs"):
        Npz(arrays(inputs=INPUTS))


def test_misspelt_arrays_and_parts(arrays):
    with pytest.raises(UnknownNameError, match=r"array of .*data.npz 'weight'; did you mean 'weights'"):
        Npz(arrays(inputs=INPUTS, targets=CLASSES, weight=WEIGHTS))
    with pytest.raises(UnknownNameError, match=r"part in .*data.npz 'valid'; did you mean 'validation'"):
        Npz(arrays(inputs=INPUTS, targets=CLASSES, part=np.array(["train", "valid"] * 10)))


def test_a_file_that_is_damaged(arrays):
    path = Path(arrays(inputs=INPUTS, targets=CLASSES))
    content = bytearray(path.read_bytes())
    content[1000] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"inputs cannot be read \(Bad CRC-32"):
        Npz(str(path))


def test_a_file_that_is_no_npz(tmp_path):
    np.save(tmp_path / "data.npy", INPUTS)
    with pytest.raises(InputError, match=r"data.npy: it is no .npz file; make one with numpy.savez"):
        Npz(str(tmp_path / "data.npy"))


# Files.


def test_a_file_that_has_changed_is_noticed(book):
    before = Text(path=book)
    again = registry.build("tasks", "text", before.parameters)
    assert again.parameters == before.parameters
    Path(book).write_text(STORY, encoding="utf-8")
    with pytest.raises(InputError, match=f"has changed: its sha256 is .*, and should be {before.digest}"):
        registry.build("tasks", "text", before.parameters)
    assert Text(path=book).digest != before.digest


def test_the_home_folder_can_be_abbreviated(book, monkeypatch):
    monkeypatch.setenv("HOME", str(Path(book).parent))
    assert Text(path="~/book.txt").parameters["path"] == "~/book.txt"


def test_tasks_that_read_a_file_pass_the_conformance_kit(book, table, arrays):
    tasks = (
        Text(path=book, length=10),
        short(table()),
        Npz(arrays(inputs=INPUTS, targets=CLASSES, weights=WEIGHTS)),
        Npz(arrays(inputs=INPUTS, targets=VALUES)),
    )
    for task in tasks:
        for _, check in checks_of(task):
            check()


def test_a_user_of_toml_is_told_that_a_path_is_needed():
    with pytest.raises(InputError, match="csv needs path"):
        registry.build("tasks", "csv")
