"""Tasks on a user's own texts, tables and arrays: what they give, their baselines, mistakes."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import gradsim
from gradsim.contracts import registry
from gradsim.errors import InputError, UnknownNameError
from gradsim.testing import checks_of
from gradsim_cells import Elman
from gradsim_tasks import Csv, Npz, Text

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
