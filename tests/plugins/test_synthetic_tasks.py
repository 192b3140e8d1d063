"""The tasks that draw their sequences, against their definitions and published numbers."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from gradsim import Baseline
from gradsim.errors import InputError
from gradsim.testing import conformance
from gradsim_tasks import (
    Adding,
    CopyMemory,
    DelayedXor,
    FlipFlop,
    Lorenz,
    NoiselessMemorisation,
    Parity,
    RandomPermutation,
    TemporalOrder,
)

test_other_forms = conformance(
    Adding(form="sum"), TemporalOrder(symbols=3), Parity(asked="always"), Lorenz(ahead=20, split=(1, 0, 0))
)


def drawn(task, batch=4000, seed=0):
    return task.sample(np.random.default_rng(seed), batch)


def label(value):
    return getattr(value, "__name__", repr(value))


def measured(task, episode, outputs):
    """Loss and score of these outputs, as a run computes them."""
    weights = episode.weights
    loss = (weights * task.loss(outputs, episode.targets, np)).sum() / weights.shape[1]
    score = (weights * task.score(outputs, episode.targets)).sum() / weights.sum()
    return loss, score


def sure(classes, size):
    """Outputs that are sure of these classes."""
    return 50.0 * np.eye(size)[classes]


# Everything that is asked can be told from the inputs, and from nothing less.


def answer_adding(inputs):
    marked = inputs[..., :1] * (inputs[..., 1:] == 1)
    return 0.5 + marked[1:].sum(axis=0) / 4


def answer_sum(inputs):
    return inputs.prod(axis=-1, keepdims=True).sum(axis=0)


def answer_order(inputs):
    said = ["".join("XY"[s - 4] for s in column if s in (4, 5)) for column in inputs.argmax(axis=-1).T]
    return np.array([int(s.replace("X", "0").replace("Y", "1"), 2) for s in said])


def answer_recall(inputs):
    symbols = inputs.argmax(axis=-1)
    blank = inputs.shape[-1] - 2
    count = (symbols < blank).sum(axis=0)[0]
    return np.concatenate((np.full_like(symbols[:-count], blank), symbols[:count]))


def answer_first(inputs):
    return inputs[0].argmax(axis=-1)


def answer_flip_flop(inputs):
    held, answers = np.zeros(inputs.shape[1:]), []
    for pulses in inputs:
        held = np.where(pulses != 0, pulses, held)
        answers.append(held)
    return np.array(answers)


def answer_xor(inputs):
    bits = [[int(b) for b in column] for column in inputs[..., 0].T]
    return np.array([[b[t - 10] ^ b[t - 20] if t >= 20 else 0 for t in range(len(b))] for b in bits]).T


def answer_parity(inputs):
    return (inputs[..., 0] > 0).sum(axis=0) % 2


def answer_running_parity(inputs):
    return (1 - np.cumprod(-inputs[..., 0], axis=0)) // 2


ANSWERS = [
    (Adding(length=30), answer_adding),
    (Adding(length=31, form="sum"), answer_sum),
    (TemporalOrder(length=10), answer_order),
    (TemporalOrder(length=10, symbols=3), answer_order),
    (CopyMemory(delay=7), answer_recall),
    (NoiselessMemorisation(delay=7), answer_recall),
    (RandomPermutation(length=9), answer_first),
    (DelayedXor(length=50), answer_xor),
    (Parity(length=9), answer_parity),
    (Parity(length=9, asked="always"), answer_running_parity),
    (FlipFlop(length=40), answer_flip_flop),
]


@pytest.mark.parametrize(("task", "answer"), ANSWERS, ids=label)
def test_the_inputs_tell_the_answer(task, answer):
    episode = drawn(task, 500)
    found = np.broadcast_to(answer(episode.inputs), episode.targets.shape)
    asked = episode.weights > 0
    np.testing.assert_allclose(found[asked], episode.targets[asked], atol=1e-12)
    outputs = found if episode.targets.ndim == 3 else sure(found.astype(int), task.output_size)
    loss, score = measured(task, episode, outputs)
    assert loss == pytest.approx(0, abs=1e-12)
    assert score == pytest.approx(1)
    np.testing.assert_allclose(episode.weights.sum(axis=0), 1)


# Trivial answers, given on many sequences, get what the baseline says.


def pulses_of_now(task, episode):
    return episode.inputs


def the_mean(task, episode):
    return np.full(episode.targets.shape, 1.0 if task.form == "sum" else 0.5)


def even_odds(task, episode):
    """All classes alike; which of them is the greatest is left to chance."""
    shape = (*episode.targets.shape, task.output_size)
    return 1e-9 * np.random.default_rng(5).standard_normal(shape)


def one_of_two(task, episode):
    outputs = even_odds(task, episode)
    outputs[..., 2:] -= 50
    return outputs


def blank_then_guess(task, episode):
    outputs = even_odds(task, episode)
    outputs[..., -1] -= 50
    outputs[: -task.count, :, -1] += 100
    return outputs


TRIVIAL = [
    (Adding(length=20), the_mean),
    (Adding(length=100), the_mean),
    (Adding(length=20, form="sum"), the_mean),
    (TemporalOrder(length=20), even_odds),
    (TemporalOrder(length=20, symbols=3), even_odds),
    (CopyMemory(delay=10), blank_then_guess),
    (NoiselessMemorisation(delay=10), blank_then_guess),
    (NoiselessMemorisation(delay=4, count=10, alphabet=5), blank_then_guess),
    (RandomPermutation(length=5, symbols=10), one_of_two),
    (DelayedXor(length=60), even_odds),
    (Parity(length=10), even_odds),
    (Parity(length=10, asked="always"), even_odds),
    (FlipFlop(length=20), pulses_of_now),
    (FlipFlop(length=20, channels=1, pulses=0.5), pulses_of_now),
]


@pytest.mark.parametrize(("task", "trivial"), TRIVIAL, ids=label)
def test_a_trivial_answer_gets_the_baseline(task, trivial):
    episode = drawn(task, 20_000, seed=3)
    loss, score = measured(task, episode, trivial(task, episode))
    assert loss == pytest.approx(task.baseline.loss, rel=0.02)
    assert score == pytest.approx(task.baseline.score, abs=0.012)


def test_baselines_are_the_published_numbers():
    copied = {100: 0.17328679513998632, 200: 0.09452007007635617, 500: 0.03998926041691992}
    for delay, loss in copied.items():
        assert CopyMemory(delay=delay).baseline.loss == pytest.approx(loss, rel=1e-14)
    assert CopyMemory().baseline.score == 1 / 8
    assert Adding(form="sum").baseline == Baseline("mean", 1 / 6, 2 * 0.04 - 0.04**2)
    assert TemporalOrder().baseline == Baseline("guessing", math.log(4), 1 / 4)
    assert TemporalOrder(symbols=3).baseline == Baseline("guessing", math.log(8), 1 / 8)
    for task in (DelayedXor(), Parity(), RandomPermutation()):
        assert task.baseline == Baseline("guessing", math.log(2), 1 / 2)
    assert NoiselessMemorisation(delay=90).baseline.loss == pytest.approx(math.log(2) / 20)


def test_adding_baseline_of_1997_is_exact():
    """The mean over all pairs of marked steps of the variance of the sum, 1/3 for each value that counts."""
    for length in (20, 33, 100):
        half = length // 2
        loss = Fraction(0)
        for first in range(10):
            for second in set(range(half)) - {first}:
                counted = sum(step != 0 for step in (first, second))
                loss += Fraction(1, 10) * Fraction(1, half - 1) * Fraction(counted, 3) / 16
        assert Adding(length=length).baseline.loss == pytest.approx(float(loss), rel=1e-14)
    assert Adding(length=10**6).baseline.loss == pytest.approx(1.9 / 48, rel=1e-5)


# Each task is drawn as its paper says.


def test_the_sum_form_of_adding_marks_one_step_of_each_half():
    for length in (20, 21):
        episode = drawn(Adding(length=length, form="sum"), 20_000)
        values, markers = episode.inputs[..., 0], episode.inputs[..., 1]
        assert 0 <= values.min() <= values.max() <= 1
        half = length // 2
        for part, size in ((markers[:half], half), (markers[half:], length - half)):
            assert (part.sum(axis=0) == 1).all()
            np.testing.assert_allclose(part.mean(axis=1), 1 / size, atol=0.01)


@pytest.mark.parametrize("length", [10, 11, 13, 27, 100])
def test_the_symbols_of_temporal_order_keep_their_order(length):
    episode = drawn(TemporalOrder(length=length, symbols=3), 3000)
    symbols = episode.inputs.argmax(axis=-1)
    told = (symbols == 4) | (symbols == 5)
    assert (told.sum(axis=0) == 3).all()
    assert (symbols[0] == 7).all()
    assert (symbols[-1] == 6).all()
    where = np.array([np.flatnonzero(column) for column in told.T])
    if length == 100:  # experiment 6b
        np.testing.assert_array_equal(where.min(axis=0), [10, 33, 66])
        np.testing.assert_array_equal(where.max(axis=0), [20, 43, 76])
    np.testing.assert_allclose(np.bincount(episode.targets[-1]) / 3000, 1 / 8, atol=0.03)


@pytest.mark.parametrize(("task", "ahead"), [(CopyMemory(delay=5), 1), (NoiselessMemorisation(delay=5), 0)])
def test_recall_shows_symbols_blanks_and_one_marker(task, ahead):
    episode = drawn(task, 3000)
    blank, marker = task.alphabet, task.alphabet + 1
    symbols = episode.inputs.argmax(axis=-1)
    assert len(symbols) == task.length == 5 + 2 * task.count
    asked = len(symbols) - task.count
    assert (symbols[asked - ahead] == marker).all()
    assert (np.delete(symbols, asked - ahead, axis=0)[task.count :] == blank).all()
    assert (episode.targets[:asked] == blank).all()
    np.testing.assert_allclose(
        np.bincount(symbols[: task.count].ravel()) / (3000 * task.count), 1 / blank, atol=0.02
    )
    assert len(np.unique(drawn(NoiselessMemorisation(), 3000).targets, axis=1).T) == 2**5


def test_recall_scores_only_what_is_recalled():
    task = CopyMemory(delay=1000)
    episode = drawn(task, 20)
    answers = sure(episode.targets, task.output_size)
    answers[-3:] = sure(
        np.full((3, 20), task.alphabet), task.output_size
    )  # the last three symbols are missing
    assert measured(task, episode, answers)[1] == pytest.approx(0.7)


def test_random_permutation_begins_with_one_of_two():
    symbols = drawn(RandomPermutation(length=50), 4000).inputs.argmax(axis=-1)
    assert symbols[0].mean() == pytest.approx(0.5, abs=0.03)
    assert set(np.unique(symbols[0])) == {0, 1}
    assert set(np.unique(symbols[1:])) == set(range(2, 100))


def test_delayed_xor_asks_once_both_bits_were_seen():
    episode = drawn(DelayedXor(length=45, delay=20), 2000)
    assert set(np.unique(episode.inputs)) == {0, 1}
    assert (episode.weights[:40] == 0).all()
    assert (episode.weights[40:] == 1 / 5).all()
    assert episode.targets[40:].mean() == pytest.approx(0.5, abs=0.03)
    with pytest.raises(
        InputError, match=r"2 delay should be below length=45 \(got delay 23\); length=47 would"
    ):
        DelayedXor(length=45, delay=23)


def test_no_part_of_the_bits_tells_their_parity():
    episode = drawn(Parity(length=8), 20_000)
    assert set(np.unique(episode.inputs)) == {-1, 1}
    odd = 2 * episode.targets[-1] - 1
    seven = episode.inputs[..., 0].prod(axis=0) * episode.inputs[..., 0]
    for partial in (*episode.inputs[..., 0], *seven):
        assert np.mean(partial * odd) == pytest.approx(0, abs=0.03)


def test_flip_flop_pulses_as_often_as_said():
    inputs = drawn(FlipFlop(length=50, channels=2, pulses=0.2), 2000).inputs
    assert set(np.unique(inputs)) == {-1, 0, 1}
    assert (inputs[0] != 0).all()
    assert (inputs[1:] != 0).mean() == pytest.approx(0.2, abs=0.01)
    assert inputs.mean() == pytest.approx(0, abs=0.01)
    assert (drawn(FlipFlop(length=9, pulses=1.0), 5).inputs != 0).all()


SHORTEST = [
    (Adding, {"length": 20}),
    (TemporalOrder, {"length": 10}),
    (CopyMemory, {"delay": 1, "count": 1, "alphabet": 2}),
    (RandomPermutation, {"length": 2, "symbols": 3}),
    (DelayedXor, {"length": 3, "delay": 1}),
    (Parity, {"length": 2}),
    (FlipFlop, {"length": 1, "channels": 1}),
]


@pytest.mark.parametrize(("cls", "least"), SHORTEST, ids=lambda value: getattr(value, "name", ""))
def test_the_least_of_everything_is_enough_and_less_is_refused(cls, least):
    episode = cls(**least).sample(np.random.default_rng(0), 3)
    np.testing.assert_allclose(episode.weights.sum(axis=0), 1)
    for name, value in least.items():
        with pytest.raises(InputError, match=rf"{name} .*\(got {value - 1}\)|got delay"):
            cls(**{**least, name: value - 1})
