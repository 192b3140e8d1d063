"""Every task, and files of any size, at the defaults of the command line."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.cli.options import chosen
from gradsim.contracts import registry
from gradsim.errors import InputError
from gradsim.experiment.kinds import SIMULATION, TRAINING
from gradsim_tasks import Csv, ElNino, Lorenz, Sunspots, Text

FILES = ("csv", "npz", "text")
TASKS = sorted(registry.catalogue().plugins["tasks"].keys() - {"csv", "npz"})
SIZES = (4, 5, 6, 7, 10, 50, 200, 600, 5000)


@pytest.fixture
def file(tmp_path, rng):
    """A file for a task, of so many rows, sequences or characters."""

    def write(kind, size):
        path = tmp_path / f"{size}.{kind}"
        if kind == "csv":
            rows = np.cumsum(rng.standard_normal((size, 2)), axis=0)
            path.write_text("a,b\n" + "\n".join(f"{a},{b}" for a, b in rows))
        elif kind == "text":
            path.write_text("".join(rng.choice(list("abc de"), size)))
        else:
            given = {"inputs": rng.standard_normal((7, size, 2)), "targets": rng.integers(0, 3, (7, size))}
            np.savez(path.with_suffix(".npz"), **given)
        return str(path)

    return write


def runs(task):
    """A simulation and a training of it, as the command line makes them."""
    name, _, path = task.partition(":")
    table = {"name": name, "path": path} if path else {"name": name}
    for kind in (SIMULATION, TRAINING):
        yield from chosen(kind, experiment=None, changes=(), task=table)


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_simulated_and_trained_at_its_defaults(task):
    for run in runs(task):
        assert run.prepare().problem.steps >= 10


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("size", SIZES)
def test_files_of_any_size_are_simulated_and_trained_at_their_defaults(file, kind, size):
    for run in runs(f"{kind}:{file(kind, size)}"):
        run.prepare()
    task = run.arguments["task"]
    assert run.arguments["batch"] == min(32, task.sequences["train"])
    assert task.sequences["validation"] >= 1
    assert ("test" in task.sequences) == (size >= (4 if kind == "npz" else 8))
    assert task.baseline.loss > 0
    again = registry.build("tasks", task.name, task.parameters)
    assert again.sequences == task.sequences
    for part, count in task.sequences.items():
        assert np.isfinite(task.take(part, np.arange(count)).inputs).all()


@pytest.mark.long
@pytest.mark.parametrize("task", [*TASKS, *(f"{kind}:{size}" for kind in FILES for size in SIZES)])
def test_the_commands_do_every_task(file, gradsim_cli, task):
    kind, _, size = task.partition(":")
    given = f"{kind}:{file(kind, int(size))}" if size else kind
    for command, *flags in (("train", "--updates", 2), ("run",), ("plan",)):
        result = gradsim_cli(command, "--task", given, *flags)
        assert result.exit_code == 0, result.output


@pytest.mark.parametrize(("rows", "length"), [(10, 1), (50, 6), (200, 29), (600, 89), (5000, 100)])
def test_windows_are_as_long_as_the_shortest_part_up_to_100(file, rows, length):
    task = Csv(path=file("csv", rows))
    assert task.length == length
    assert task.rows == rows
    parts = [stop - start for start, stop in task.parts.values()]
    assert (min(parts) >= length + 1, sum(parts)) == (True, rows)


def test_a_split_or_a_length_that_is_given_is_kept():
    halves = Lorenz(rows=100, split=(0.5, 0.5, 0.0))
    assert (halves.length, halves.split) == (49, (0.5, 0.5, 0.0))
    assert (ElNino().length, ElNino().split) == (36, (0.7, 0.15, 0.15))
    with pytest.raises(InputError, match=r"length \+ ahead should be at most 15, the rows of the validation"):
        Lorenz(rows=100, length=15, split=(0.7, 0.15, 0.15))


@pytest.mark.parametrize(
    ("length", "parts"),
    [
        (14, (70, 15, 15)),
        (15, (68, 16, 16)),
        (24, (50, 25, 25)),
        (25, (74, 26)),
        (49, (50, 50)),
        (50, (100,)),
        (99, (100,)),
    ],
)
def test_validation_and_test_get_a_window_while_half_is_left_for_training(length, parts):
    task = Lorenz(rows=100, length=length)
    assert tuple(stop - start for start, stop in task.parts.values()) == parts
    assert sum(task.split) == pytest.approx(1)


def test_a_length_beyond_the_data_says_how_long_it_can_be(file):
    with pytest.raises(
        InputError, match=r"at most 100, the rows of the train part \(got 100 \+ 1\); the series has 100 rows"
    ):
        Lorenz(rows=100, length=100)
    with pytest.raises(InputError, match="length should be below 50, the characters in its shortest part"):
        Text(path=file("text", 50), length=50)


@pytest.mark.parametrize(("characters", "least"), [(200, 1), (5000, 5), (20_000, 10)])
def test_in_a_short_text_rarer_characters_have_symbols(file, characters, least):
    assert Text(path=file("text", characters)).min_count == least


def test_too_little_to_keep_a_part_is_named(file):
    for task in (f"csv:{file('csv', 3)}", f"text:{file('text', 3)}", f"npz:{file('npz', 1)}"):
        simulation, training = runs(task)
        simulation.prepare()
        with pytest.raises(InputError, match=r"has no part 'validation', only train; .*see `gradsim show"):
            training.prepare()
    with pytest.raises(InputError, match=r"\(it has length, ahead, split, sha256, path"):
        next(run for run in runs(f"csv:{file('csv', 3)}") if run.kind is TRAINING).prepare()


def test_sunspots_keep_years_for_validation_unless_one_window_takes_all():
    assert (Sunspots().length, Sunspots().sequences) == (45, {"train": 4, "validation": 1, "test": 1})
    assert Sunspots(length=308).sequences == {"train": 1}
