"""Teacher forcing and dropout: on in updates and probes, off where a training is validated and tested."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
from byhand import start
from helpers import loss_of, numerical_gradient
from small import Labelled, Stream

import gradsim
from gradsim import Cell, Mitigation, Wrapper, hookimpl
from gradsim.contracts.derived import Derived
from gradsim.errors import InputError, PluginError
from gradsim.testing import check_cell, conformance
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import SGD

SETTING = {"optimizer": SGD(0.1), "updates": 3, "batch": 2, "validate": {"every": 3}}


@dataclass(frozen=True, eq=False)
class Forced(Cell):
    """h_t = tanh(U h_{t-1} + W x_t + V y*_t w_t): sees the target y*_t where its weight is not 0."""

    name = "forced"
    input_size: int = 1

    @property
    def blocks(self):
        return {"h": 3}

    def init_params(self, rng):
        shapes = {"U": (3, 3), "W": (3, self.input_size), "V": (3, 1)}
        return {name: rng.standard_normal(shape) / 2 for name, shape in shapes.items()}

    def draw(self, rng, steps, batch, moment):
        return {"told": np.full((steps, batch, 1), float(not moment.validating))}

    def step(self, params, state, inputs, xp, *, targets, weights, told):
        told = told * targets * weights[..., None]
        return xp.tanh(state @ params["U"].T + inputs @ params["W"].T + told @ params["V"].T)


test_forced = conformance(Forced(), task=Stream())


def by_hand(params, episode, told=1.0, keep=None):
    """The loss, in a plain loop; `told`: whether the cell is told the targets; `keep`: scales the states."""
    p, total = params, 0.0
    for b in range(episode.inputs.shape[1]):
        h = np.zeros(len(p["U"]))
        for t in range(len(episode.inputs)):
            x, y, w = episode.inputs[t, b], episode.targets[t, b], episode.weights[t, b]
            h = np.tanh(p["U"] @ h + p["W"] @ x + p.get("b", 0) + (p["V"] @ (told * w * y) if told else 0))
            h = h if keep is None else h * keep
            total += w * np.mean((p["readout_W"] @ h + p["readout_b"] - y) ** 2)
    return total / episode.inputs.shape[1]


def parts(task):
    """What is validated and tested on."""
    return (task.take(part, np.arange(task.sequences[part])) for part in ("validation", "test"))


def test_a_run_with_forcing_is_that_worked_out_by_hand():
    task = Stream(train=5, length=6)
    params = start(Forced(), task)
    given = {"task": task, "batch": 4}
    ds = gradsim.simulate(Forced(), params=params, record=["gradient"], **given)
    assert ds.attrs["loss"] == pytest.approx(by_hand(params, task.given[-1]), rel=1e-13)
    for name in ("V", "U"):
        expected = numerical_gradient(lambda p: loss_of(Forced(), p, **given), params, name)
        np.testing.assert_allclose(ds[f"gradient_{name}"], expected, rtol=1e-6, atol=1e-9)


def test_updates_and_probes_are_forced_and_validation_and_test_are_not():
    task = Stream(test=2)
    params = start(Forced(), task)
    setting = SETTING | {"optimizer": SGD(1e-300), "record": {"every": 3, "recorders": ["loss"], "batch": 3}}
    ds = train(Forced(), task, params=params, **setting)
    validation, test = parts(task)
    for i, seen in enumerate(task.last(3)):
        assert ds.train_loss[i] == pytest.approx(by_hand(params, seen), rel=1e-13)
    for i in (0, 1):
        assert ds.loss[i].sum("step").mean() == pytest.approx(by_hand(params, validation), rel=1e-13)
        assert ds.validation_loss[i] == pytest.approx(by_hand(params, validation, 0), rel=1e-13)
    assert ds.attrs["test_loss"] == pytest.approx(by_hand(params, test, 0), rel=1e-13)


# Forcing by somebody who has not thought of validation.


class Unthinking(Forced):
    name = "unthinking"

    def draw(self, rng, steps, batch):
        return {"told": np.ones((steps, batch, 1))}


@dataclass(frozen=True, eq=False)
class Taught(Wrapper):
    """Its first unit is the target."""

    name = "taught"
    cell: Cell

    def mix(self, own, state, inputs, new, xp, *, targets):
        return xp.concat([targets, new[..., 1:]], axis=-1)


@dataclass(frozen=True, eq=False)
class Teaching(Mitigation):
    """Teacher forcing by the wrapper, as a mitigation."""

    name = "teaching"

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        return Taught((yield))


@dataclass(frozen=True, eq=False)
class Ready(Wrapper):
    """Its first unit is `fed`, where that is a number."""

    name = "ready"
    cell: Cell

    def own_draw(self, rng, steps, batch):
        return {"fed": np.full((steps, batch, 1), np.nan)}

    def mix(self, own, state, inputs, new, xp, *, fed):
        first = xp.where(xp.isnan(fed), new[..., :1], fed)
        return xp.concat([first, new[..., 1:]], axis=-1)


@dataclass(frozen=True, eq=False)
class Feeding(Mitigation):
    """Teacher forcing by step data, made of the episode."""

    name = "feeding"

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, episode):
        data = yield
        return {**data, "ready1_fed": episode.targets}


class FeedingAnyhow(Feeding):
    name = "feeding_anyhow"

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, episode, moment):
        data = yield
        return {**data, "ready1_fed": episode.targets}


class FeedingMore(Feeding):
    """Forces more and more, and forgets to stop while validating: nothing is wrong at first."""

    name = "feeding_more"

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, episode, moment):
        data = yield
        fed = np.full_like(episode.targets, np.nan)
        fed[: round(len(fed) * moment.update / moment.updates)] = episode.targets[0]
        return {**data, "ready1_fed": fed}


@pytest.mark.parametrize(
    ("cell", "mitigations", "message"),
    [
        (Unthinking(), [], r"Unthinking\(input_size=1\): the states depend on the targets .* answers leak"),
        (Taught(Elman(1, 3)), [], r"Taught\(.*: the states depend on the targets"),
        (Elman(1, 3), [Teaching()], r"Taught\(.*: the states depend on the targets"),
        (Ready(Elman(1, 3)), [Feeding()], r"Feeding\(\): gradsim_step_data .* let it name `moment`"),
        (
            Ready(Elman(1, 3)),
            [FeedingAnyhow()],
            r"Ready\(.* with feeding_anyhow: the states depend on the tar",
        ),
        (Ready(Elman(1, 3)), [FeedingMore()], r"with feeding_more: the states depend on the targets"),
    ],
)
def test_answers_that_would_leak_into_a_validation_are_refused(cell, mitigations, message):
    setting = SETTING | {"mitigations": mitigations}
    assert np.isfinite(train(cell, Stream(), **setting | {"validate": None}).train_loss).all()
    with pytest.raises(PluginError, match=message):
        train(cell, Stream(), **setting)


class FeedingWell(Feeding):
    name = "feeding_well"

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, episode, moment):
        data = yield
        return data if moment.validating else {**data, "ready1_fed": episode.targets}


def test_step_data_that_know_of_validation_are_off_there():
    task, cell = Stream(test=2), Ready(Elman(1, 3))
    params = start(cell, task)
    setting = SETTING | {"optimizer": SGD(1e-300), "params": params}
    ds = train(cell, task, mitigations=[FeedingWell()], **setting)
    validation, test = parts(task)
    assert ds.validation_loss[1] == pytest.approx(by_hand(params, validation, 0), rel=1e-12)
    assert ds.attrs["test_loss"] == pytest.approx(by_hand(params, test, 0), rel=1e-12)
    assert not np.allclose(ds.train_loss, train(cell, task, **setting).train_loss)


class Knows(Stream):
    """Gives what was the target at the step before to the network, in every pass."""

    name = "knows"

    def take(self, part, chosen):
        episode = super().take(part, chosen)
        return replace(episode, step_data={"before": np.roll(episode.targets, 1, axis=0)})


class Reads(Forced):
    name = "reads"

    def draw(self, rng, steps, batch):
        return {}

    def step(self, params, state, inputs, xp, *, before):
        drive = state @ params["U"].T + inputs @ params["W"].T
        return xp.tanh(drive + before @ params["V"].T)


def test_what_the_task_lets_the_network_know_it_knows_in_a_validation_too():
    task = Knows(test=2)
    params = start(Reads(), task)
    ds = train(Reads(), task, params=params, **SETTING)
    whole = task.take("validation", np.arange(3))
    told = replace(whole, inputs=np.concatenate([whole.inputs, whole.step_data["before"]], axis=-1))
    same = {**params, "W": np.concatenate([params["W"], params["V"]], axis=1)}
    assert ds.validation_loss[0] == pytest.approx(by_hand(same, told, 0), rel=1e-13)


def test_without_a_task_there_are_no_targets():
    with pytest.raises(InputError, match=r"Forced\(.* asks for the targets of a task, and there is none"):
        gradsim.simulate(Forced(), np.ones((3, 1, 1)))


# Dropout.


@dataclass(frozen=True, eq=False)
class Dropout(Wrapper):
    """Each new unit is dropped with probability 1/4; in a validation it counts three quarters."""

    name = "dropout"
    cell: Cell

    def own_draw(self, rng, steps, batch, moment):
        shape = steps, batch, self.state_size
        return {"kept": np.full(shape, 0.75) if moment.validating else (rng.random(shape) < 0.75) + 0.0}

    def mix(self, own, state, inputs, new, xp, *, kept):
        return kept * new


class DropoutUnthinking(Dropout):
    name = "dropout_unthinking"

    def own_draw(self, rng, steps, batch):
        return {"kept": (rng.random((steps, batch, self.state_size)) < 0.75) + 0.0}


@dataclass(frozen=True, eq=False)
class Dropping(Mitigation):
    """Dropout by a wrapper, as a mitigation."""

    name = "dropping"

    thinks: bool = True

    @hookimpl(wrapper=True)
    def gradsim_cell(self):
        return (Dropout if self.thinks else DropoutUnthinking)((yield))


@dataclass(frozen=True, eq=False)
class Weighty(Derived):
    """Noise on all weights."""

    name = "weighty"
    cell: Cell

    def own_noise(self, rng, inner):
        return {n: rng.standard_normal(x.shape) for n, x in inner.items()}

    def derive(self, own, inner, xp, **noise):
        return {n: x + 0.1 * noise[n] for n, x in inner.items()}


@dataclass(frozen=True, eq=False)
class Masking(Mitigation):
    """Dropout by step data."""

    name = "masking"

    def draw(self, rng, steps, batch):
        return {"kept": (rng.random((steps, batch, 3)) < 0.75) + 0.0}

    @hookimpl(wrapper=True)
    def gradsim_step_data(self, draws, moment):
        data = yield
        return {**data, "dropout1_kept": draws[self]["kept"]}


@pytest.mark.parametrize(
    ("cell", "mitigations", "message"),
    [
        (
            DropoutUnthinking(Elman(1, 3)),
            [],
            r"DropoutUnthinking\(.*: own_draw\(\) draws at random for a val",
        ),
        (Elman(1, 3), [Dropping(thinks=False)], r"DropoutUnthinking\(.*: own_draw\(\) draws at random"),
        (Weighty(Elman(1, 3)), [], r"Weighty\(.*: own_noise\(\) draws at random .* name `moment`"),
        (Dropout(Elman(1, 3)), [Masking()], r"Masking\(\): draw\(\) draws at random .* name `moment`"),
    ],
)
def test_chance_that_has_not_thought_of_validation_is_refused(cell, mitigations, message):
    setting = SETTING | {"mitigations": mitigations}
    assert np.isfinite(train(cell, Stream(), **setting | {"validate": None}).train_loss).all()
    with pytest.raises(PluginError, match=message):
        train(cell, Stream(), **setting)


@pytest.mark.parametrize(("cell", "more"), [(Dropout(Elman(1, 3)), []), (Elman(1, 3), [Dropping()])])
def test_dropout_is_off_in_validation_and_test(cell, more):
    task = Stream(test=2)
    params = start(Elman(1, 3), task)
    setting = SETTING | {"optimizer": SGD(1e-300), "params": params}
    ds = train(cell, task, mitigations=more, **setting)
    validation, test = parts(task)
    expected = by_hand(params, validation, 0, keep=0.75)
    np.testing.assert_allclose(ds.validation_loss, [expected, expected], rtol=1e-13)
    assert ds.attrs["test_loss"] == pytest.approx(by_hand(params, test, 0, keep=0.75), rel=1e-13)
    without = [by_hand(params, seen, 0, keep=0.75) for seen in task.last(3)]
    assert not np.isclose(ds.train_loss, without).any()


# Targets of other types.


@dataclass(frozen=True, eq=False)
class Classes(Forced):
    """h_t = tanh(U h_{t-1} + W x_t), or of half of that where the class is not 1."""

    name = "classes"
    input_size: int = 2

    def step(self, params, state, inputs, xp, *, targets, told):
        drive = state @ params["U"].T + inputs @ params["W"].T
        other = (targets[..., None] != 1) & (told == 1)
        return xp.tanh(xp.where(other, 0.5 * drive, drive))


def test_targets_stay_as_the_task_keeps_them():
    """Class numbers stay ints, and a run locks nothing that is not its own."""
    task = Labelled()
    gradsim.simulate(Classes(), task=task, batch=2)
    assert task.given[-1].targets.flags.writeable
    check_cell(Classes(), task=task)


class ClassesUnthinking(Classes):
    name = "classes_unthinking"

    def draw(self, rng, steps, batch):
        return {"told": np.ones((steps, batch, 1))}


def test_classes_leak_too():
    train(Classes(), Labelled(), **SETTING)
    with pytest.raises(PluginError, match=r"ClassesUnthinking\(.*: the states depend on the targets"):
        train(ClassesUnthinking(), Labelled(), **SETTING)
