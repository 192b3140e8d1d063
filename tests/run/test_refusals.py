"""What mitigations refuse is told at once, before any of them draws."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import numpy as np
import pytest
from helpers import refused

import gradsim
from gradsim import Cell, Mitigation, hookimpl
from gradsim.contracts import registry
from gradsim.errors import InputError, UnknownNameError
from gradsim_cells import LSTM, MinGRU
from gradsim_mitigations import (
    Activity,
    AuxiliaryLoss,
    Dropout,
    Flossing,
    GradientCentralisation,
    Leak,
    ScalePaths,
    SoftCap,
    SoftOrthogonality,
    TeacherForcing,
    WeightDecay,
    WeightNoise,
)
from gradsim_optimizers import SGD
from gradsim_tasks import Adding


@dataclass(frozen=True, eq=False)
class Drawing(Mitigation):
    """Fails as soon as it should draw."""

    name = "drawing"

    def draw(self, rng):
        raise AssertionError

    @hookimpl(wrapper=True)
    def gradsim_gradient(self):
        return (yield)


def simulated(*mitigations, cell=None):
    cell = LSTM(2, 3) if cell is None else cell
    return gradsim.simulate(cell, task=Adding(length=20), record=["loss"], mitigations=mitigations)


def trained(*mitigations, cell=None):
    cell = LSTM(2, 3) if cell is None else cell
    return gradsim.train(cell, task=Adding(length=20), optimizer=SGD(0.1), updates=1, mitigations=mitigations)


@pytest.mark.parametrize("verb", [simulated, trained])
def test_all_refusals_are_told_at_once_a_line_each_before_anything_is_drawn(verb):
    chosen = [
        Drawing(),
        WeightDecay(names=("w",)),
        Leak(),
        Flossing(exponents=9),
        ScalePaths({"inputs": 0.5}),
    ]
    with pytest.raises(InputError) as caught:
        verb(Drawing(), *chosen)
    head, *lines = str(caught.value).split("\n")
    assert head.endswith("3 mitigations do not fit:")
    assert [line.strip().partition(";")[0] for line in lines] == [
        "unknown parameter in weight_decay 'w'",
        "flossing: exponents=9, where leaky has 6 in all",
        "unknown path of leaky in scale_paths 'inputs'",
    ]


@pytest.mark.parametrize("verb", [simulated, trained])
def test_so_are_those_of_mitigations_that_do_not_change_the_cell(verb):
    chosen = [Dropout(blocks=("k",)), WeightDecay(names=("w",)), SoftCap(gates=("forgot",))]
    with pytest.raises(UnknownNameError) as caught:  # as all of it is names
        verb(Drawing(), *chosen)
    assert [line.strip().partition(";")[0] for line in str(caught.value).split("\n")] == [
        "3 mitigations do not fit:",
        "dropout: unknown block of lstm 'k'. Known: c, h",
        "soft_cap: unknown gate of lstm 'forgot'",
        "unknown parameter in weight_decay 'w'",
    ]


def test_so_are_those_of_draws():
    with pytest.raises(InputError) as caught:
        simulated(Flossing(transient=20), AuxiliaryLoss(length=99))
    head, *lines = str(caught.value).split("\n")
    assert head == "2 mitigations do not fit:"
    assert [line.split()[0] for line in lines] == ["flossing:", "auxiliary_loss:"]


def test_one_refusal_is_told_as_it_is():
    with pytest.raises(UnknownNameError, match=r"^unknown parameter in weight_decay 'w'; did you mean 'W'"):
        simulated(Leak(), WeightDecay(names=("w",)))
    with pytest.raises(InputError, match=r"^flossing: exponents=9, where lstm has 6 in all$"):
        simulated(Flossing(exponents=9))


CHOOSING = {
    cls.name: (cls, field.name)
    for _, cls in sorted(registry.catalogue().plugins["mitigations"].items())
    for field in fields(cls)
    if field.name in ("names", "blocks", "gates")
}
"""The mitigations with an option that names what they act on."""


@pytest.mark.parametrize("name", CHOOSING)
def test_what_names_nothing_or_something_else_is_refused(name):
    cls, option = CHOOSING[name]
    with pytest.raises((InputError, UnknownNameError), match=rf"{name}\b.*(empty|leave it out)"):
        simulated(cls(**{option: ()}))
    near = {"names": "u", "blocks": "H", "gates": "Forget"}[option]
    meant = {"names": "U", "blocks": "h", "gates": "forget"}[option]
    with pytest.raises(UnknownNameError, match=rf"{name}\b.*'{near}'; did you mean '{meant}'\?"):
        simulated(cls(**{option: (near,)}))


def test_options_that_would_change_nothing_are_refused():
    with refused(InputError, "gradient_centralisation: b has no rows of two or more weights; leave it out"):
        simulated(GradientCentralisation(names=("U", "b")))
    with refused(InputError, "weight_noise: no parameter of", "has two or more axes"):
        simulated(WeightNoise(), cell=OnlyVectors())
    held = replace(WeightDecay(), names=("held",))
    with refused(InputError, "weight_decay: held is fixed, and no training changes it; leave it out"):
        simulated(held, cell=OnlyVectors())


def test_forcing_without_a_task_says_so_with_the_others():
    with pytest.raises(InputError) as caught:
        gradsim.simulate(
            MinGRU(2, 3),
            np.zeros((4, 1, 2)),
            mitigations=[TeacherForcing(), SoftOrthogonality(), Activity(blocks=())],
        )
    assert [line.strip().partition(":")[0] for line in str(caught.value).split("\n")] == [
        "3 mitigations do not fit",
        "teacher_forcing",
        "soft_orthogonality",
        "activity",
    ]


@dataclass(frozen=True, eq=False)
class OnlyVectors(Cell):
    """s = tanh(a s + x) + held, unit by unit."""

    name = "only_vectors"
    input_size: int = 2
    fixed = ("held",)

    @property
    def blocks(self):
        return {"h": 2}

    def init_params(self, rng):
        return {"a": rng.standard_normal(2), "held": np.ones(2)}

    def step(self, params, state, inputs, xp):
        return xp.tanh(params["a"] * state + inputs) + params["held"]
