"""Tasks that break their promises: said of the task, in a simulation and in a training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from unittest import SkipTest

import numpy as np
import pytest
from helpers import refused

import gradsim
from gradsim import Episode, FiniteTask, Task, cross_entropy, squared_error
from gradsim.contracts.episodes import sampled, taken
from gradsim.contracts.task import Baseline
from gradsim.errors import GradsimError, NonFiniteError, PluginError
from gradsim.testing import checks_of
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


def episode(batch, **changes):
    """A good one, with some of its arrays changed."""
    rng = np.random.default_rng(0)
    shapes = {"inputs": (6, batch, 2), "targets": (6, batch, 1), "weights": (6, batch)}
    good = {name: np.abs(rng.standard_normal(shape)) for name, shape in shapes.items()}
    return replace(Episode(**good), **{n: c(good[n]) if n in good else c for n, c in changes.items()})


def made(base, **members):
    good = {
        "name": "broken",
        "input_size": 2,
        "output_size": 1,
        "loss": lambda self, outputs, targets, xp: squared_error(outputs, targets, xp),
        "__annotations__": {},
    }
    return dataclass(frozen=True, eq=False)(type("Broken", (base,), good | members))()


def task(**members):
    return made(Task, **{"sample": lambda self, rng, batch: episode(batch), **members})


def finite(**members):
    good = {
        "sequences": {"train": 6, "validation": 3},
        "take": lambda self, part, chosen: episode(len(chosen)),
    }
    return made(FiniteTask, **good | members)


def giving(**changes):
    """A task whose episodes are changed so."""
    return task(sample=lambda self, rng, batch: episode(batch, **changes))


def losing(loss, **members):
    return task(loss=lambda self, outputs, targets, xp: loss(outputs, targets, xp), **members)


def classes(targets):
    """A task of three classes, with these targets everywhere."""
    return task(
        output_size=3,
        sample=lambda self, rng, batch: replace(episode(batch), targets=np.full((6, batch), targets)),
        loss=lambda self, outputs, targets, xp: cross_entropy(outputs, targets, xp),
    )


def simulate(chosen):
    return gradsim.simulate(Elman(2, 4), task=chosen, batch=3, record=["gradient"])


def trained(chosen, updates=2):
    validate = {"every": 1, "sequences": 3}
    record = {"every": 1, "batch": 2, "recorders": ["gradient"]}
    return train(
        Elman(2, 4), chosen, optimizer=SGD(0.1), updates=updates, batch=3, validate=validate, record=record
    )


def spoilt(x):
    x.flat[0] = np.nan
    return x


def raises(*_):
    return {}["x"]


RNG = np.random.default_rng(0)
WRONG = {
    "sample raises": (task(sample=raises), "sample() raised KeyError: 'x' ("),
    "sample takes less": (task(sample=lambda self, rng: None), "sample() raised TypeError: "),
    "a tuple": (task(sample=lambda self, rng, batch: (1, 2)), "sample() returns a tuple; it should be a"),
    "None": (task(sample=lambda self, rng, batch: None), "sample() returns None; it should be a"),
    "inputs, 2 axes": (giving(inputs=lambda x: x[0]), "inputs have shape (3, 2) for batch 3; they should"),
    "inputs, features": (giving(inputs=lambda x: x[..., :1]), "they should have (time, 3, 2)"),
    "inputs, batch": (giving(inputs=lambda x: x[:, :1]), "inputs have shape (6, 1, 2) for batch 3"),
    "no inputs": (giving(inputs=lambda x: x[:0]), "inputs have shape (0, 3, 2)"),
    "inputs, NaN": (giving(inputs=spoilt), "inputs is nan for the first time at time 0, batch 0"),
    "inputs, complex": (giving(inputs=lambda x: 1j * x), "inputs should hold real numbers, not complex128"),
    "inputs, text": (giving(inputs=lambda x: "abc"), "inputs have shape ()"),
    "inputs, ragged": (giving(inputs=lambda x: [[1], [1, 2]]), "sample() raised ValueError: "),
    "targets, short": (giving(targets=lambda x: x[:2]), "targets has shape (2, 3, 1); its leading axes"),
    "targets, none": (giving(targets=lambda x: None), "targets has shape (); its leading axes"),
    "targets, NaN": (giving(targets=spoilt), "targets is nan for the first time at time 0"),
    "targets, text": (giving(targets=lambda x: x.astype(str)), "targets should hold real numbers, not <U"),
    "targets, flat": (giving(targets=lambda x: x[..., 0]), "squared_error: targets should have the shape"),
    "weights, short": (giving(weights=lambda x: x[:2]), "weights have shape (2, 3); they should have"),
    "weights, none": (giving(weights=lambda x: None), "weights have shape (); they should have"),
    "weights, NaN": (giving(weights=spoilt), "weights is nan for the first time at time 0"),
    "weights, complex": (giving(weights=lambda x: 1j * x), "weights should hold real numbers, not complex"),
    "weights, negative": (giving(weights=lambda x: -x), "some weights are negative: then a greater loss"),
    "step data, short": (giving(step_data={"force": np.ones(2)}), "force has shape (2,); its leading axes"),
    "step data, list": (giving(step_data=[1]), "step_data is [1]; it should be a dict of arrays"),
    "chance": (giving(inputs=lambda x: RNG.random(x.shape)), "sample() draws another episode from the same"),
    "class 3 of 0..2": (classes(3), "cross_entropy: the outputs have 3 classes, 0..2, and a target is 3"),
    "class -1": (classes(-1), "cross_entropy: the outputs have 3 classes, 0..2, and a target is -1"),
    "class 1.0": (classes(1.0), "cross_entropy: targets should be class numbers (int)"),
    "loss raises": (losing(raises), "loss() raised KeyError: 'x' ("),
    "loss takes less": (task(loss=lambda self, outputs: 0), "loss() raised TypeError: "),
    "loss, None": (losing(lambda y, t, xp: None), "loss() gives None for outputs of shape"),
    "loss, a float": (losing(lambda y, t, xp: 1.0), "loss() gives a float for outputs of shape"),
    "loss, summed": (losing(lambda y, t, xp: xp.mean(y - t)), "loss() gives a float64 for outputs of shape"),
    "loss, wide": (losing(lambda y, t, xp: y - t), ", 1) for outputs of shape"),
    "loss, complex": (losing(lambda y, t, xp: 1j * (y - t)[..., 0]), "loss() gives complex128, where real"),
    "loss, mixing": (
        losing(lambda y, t, xp: y[..., 0] + xp.mean(y)),
        "the loss of one batch element alone differs by",
    ),
    "loss, by chance": (losing(lambda y, t, xp: y[..., 0] * RNG.random()), "loss() gives two results for"),
    "loss, untraceable": (losing(lambda y, t, xp: np.asarray(y)[..., 0]), "the loss cannot be traced"),
    "loss, NaN": (losing(lambda y, t, xp: y[..., 0] * np.nan), "the loss is nan for the first time at"),
    "outputs, 1.0": (task(output_size=1.0), "output_size is 1.0; it should be an int, 1 or more"),
    "outputs, 0": (task(output_size=0), "output_size is 0; it should be an int, 1 or more"),
    "outputs, None": (task(output_size=None), "output_size is None; it should be an int, 1 or more"),
    "outputs, raises": (task(output_size=property(raises)), "output_size raised KeyError: 'x'"),
    "outputs, a method": (task(output_size=lambda self: 1), "output_size is a method; put @property"),
    "inputs, '2'": (task(input_size="2"), "input_size is '2'; it should be an int, 0 or more"),
    "readout": (task(readout="no"), "readout is 'no'; it should be True or False"),
    "metric": (task(metric=3), "metric is 3; it should name what score() measures"),
    "no score": (task(metric="accuracy"), "metric is 'accuracy', but there is no score()"),
    "no parts": (finite(sequences=None), "sequences is None; it should map parts to numbers"),
    "a list of parts": (finite(sequences=[3]), "sequences is [3]; it should map parts to numbers"),
    "no training part": (finite(sequences={"test": 3}), 'the parts are test; there should be "train"'),
    "no sequences": (finite(sequences={"train": 0}), "the part 'train' has 0 sequences; it should be an int"),
    "6.0 sequences": (finite(sequences={"train": 6.0}), "the part 'train' has 6.0 sequences; it should be"),
    "sequences raise": (finite(sequences=property(raises)), "sequences raised KeyError: 'x'"),
    "consecutive": (finite(consecutive="yes"), "consecutive is 'yes'; it should be True or False"),
    "take, None": (finite(take=lambda self, part, chosen: None), "take() returns None; it should be a"),
    "take, too few": (finite(take=lambda self, part, chosen: episode(1)), "inputs have shape (6, 1, 2) for"),
}  # fmt: skip


@pytest.mark.parametrize("verb", [simulate, trained])
@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_task_is_named_with_what_was_expected_and_what_came(verb, name):
    chosen, message = WRONG[name]
    if name == "take, None" and verb is simulate:
        message = "sample() returns None; it should be a"  # which takes them
    with refused(GradsimError, "Broken()", message):
        verb(chosen)


@pytest.mark.parametrize("name", WRONG)
def test_the_kit_reports_what_a_run_refuses(name):
    """It raises nothing but AssertionError, and some check fails."""
    failed = []
    for check, call in checks_of(WRONG[name][0]):
        try:
            call()
        except AssertionError as error:
            failed.append((check, str(error)))
        except SkipTest:
            continue
    assert any("Broken()" in message for _, message in failed), failed


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ({"score": raises}, "score() raised KeyError: 'x' ("),
        ({"score": lambda self, y, t: y}, "score() gives shape (6, 3, 1) for outputs of shape (6, 3, 1)"),
        ({"score": lambda self, y, t: None}, "score() gives None for outputs of shape"),
        ({"score": lambda self, y, t: y[..., 0] * np.nan}, "score() is NaN or infinite"),
        ({"baseline": property(raises)}, "baseline raised KeyError: 'x' ("),
        ({"baseline": 3.0}, "baseline is 3.0; it should be a gradsim.Baseline with a name, or None"),
        ({"baseline": Baseline("zero", np.nan, 1.0)}, "the loss of the baseline is nan"),
        ({"baseline": Baseline("zero", 1.0)}, "the score of the baseline is None and the metric 'good'"),
    ],
)
def test_what_only_a_training_asks_for(members, message):
    good = {"metric": "good", "score": lambda self, outputs, targets: outputs[..., 0]}
    with refused(GradsimError, "Broken()", message):
        trained(task(**good | members))


def test_sequences_of_another_length_than_the_first_are_refused():
    def sample(self, rng, batch):
        steps, good = rng.integers(1, 7), episode(batch)
        return Episode(good.inputs[:steps], good.targets[:steps], good.weights[:steps])

    with refused(PluginError, "Broken(): the sequences of update", "pad them to one length"):
        trained(task(sample=sample), updates=20)


def test_the_arrays_of_an_episode_are_read_only_and_those_of_the_task_stay_its_own():
    mine = episode(3, step_data={"force": np.ones((6, 3))})
    for given in (
        sampled(task(sample=lambda self, rng, batch: mine), RNG, 3),
        taken(finite(take=lambda self, part, chosen: mine), "train", np.arange(3)),
    ):
        for array in given.arrays.values():
            with pytest.raises(ValueError, match="read-only"):
                array[0] = 0
    assert all(array.flags.writeable for array in mine.arrays.values())


def test_a_loss_that_writes_into_its_targets_is_refused():
    def loss(outputs, targets, xp):
        targets[0] = 9
        return xp.sum((outputs - targets) ** 2, axis=-1)

    with refused(PluginError, "Broken(): loss() changes its argument targets"):
        simulate(losing(loss))


def test_nan_of_a_loss_is_no_mistake_in_the_shape():
    with pytest.raises(NonFiniteError, match="step 1, batch 0"):
        simulate(losing(lambda y, t, xp: xp.log(-1 - y[..., 0] ** 2)))


def test_a_task_is_drawn_again_once_a_process():
    drawn = []

    class Counted(Adding):
        name = "counted"

        def sample(self, rng, batch):
            drawn.append(batch)
            return super().sample(rng, batch)

    runs = [
        gradsim.simulate(Elman(2, 3), task=Counted(length=20), batch=2, record=["state"], rng=1)
        for _ in range(3)
    ]
    assert drawn == [2, 2, 2, 2]
    assert runs[0].state.equals(runs[1].state)
    assert runs[0].state.equals(runs[2].state)
