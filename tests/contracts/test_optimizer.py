"""An optimizer and its schedule."""

from __future__ import annotations

from dataclasses import dataclass
from unittest import SkipTest

import numpy as np
import pytest
from helpers import descent, refused
from small import Labelled

from gradsim import Optimizer, Schedule
from gradsim.errors import DivergedError, PluginError
from gradsim.testing import checks_of
from gradsim.training.verb import train
from gradsim_cells import Elman
from gradsim_optimizers import SGD
from gradsim_schedules import StepDecay


def test_the_schedule_multiplies_the_learning_rate():
    assert SGD(0.2, schedule=StepDecay(gamma=0.5, every=2)).rate(3, 10) == 0.1
    x = descent(SGD(0.2, schedule=StepDecay(gamma=0.5, every=2)), [0.0], lambda u, x: [1.0], 4)[:, 0]
    np.testing.assert_allclose(x, [-0.2, -0.4, -0.5, -0.6], rtol=1e-14)
    assert SGD(0.2).rate(3, 10) == 0.2


@dataclass(frozen=True, eq=False)
class Falls(Schedule):
    """Below zero, at last."""

    name = "falls"

    def factor(self, update, updates):
        return 1 - update


def test_a_schedule_that_makes_no_sense_is_named():
    assert SGD(0.1, schedule=Falls()).rate(1, 10) == 0
    with pytest.raises(
        PluginError, match=r"Falls\(\): factor\(3, 10\) should be finite and 0 or more, not -2"
    ):
        SGD(0.1, schedule=Falls()).rate(3, 10)


def trained(optimizer):
    return train(Elman(2, 3), Labelled(), optimizer=optimizer, updates=2, batch=2)


def scheduled(factor):
    cls = type("Broken", (Schedule,), {"name": "broken", "__annotations__": {}, "factor": factor})
    return SGD(0.1, schedule=dataclass(frozen=True, eq=False)(cls)())


def raises(*_):
    return {}["x"]


@pytest.mark.parametrize(
    ("factor", "message"),
    [
        (raises, "factor() raised KeyError: 'x' ("),
        (lambda self, update, updates: 1 / 0, "factor() raised ZeroDivisionError"),
        (lambda self, update: 1.0, "factor() raised TypeError"),
        (lambda self, update, updates: None, "should be finite and 0 or more, not None"),
        (lambda self, update, updates: "1", "should be finite and 0 or more, not '1'"),
        (lambda self, update, updates: 1j, "should be finite and 0 or more, not 1j"),
        (lambda self, update, updates: np.nan, "should be finite and 0 or more, not nan"),
        (lambda self, update, updates: np.inf, "should be finite and 0 or more, not inf"),
        (lambda self, update, updates: -1.0, "should be finite and 0 or more, not -1.0"),
        (
            lambda self, update, updates: np.ones(1),
            "should be finite and 0 or more, not ndarray of shape (1,)",
        ),
    ],
)
def test_a_wrong_schedule_is_named_by_a_training_and_by_the_kit(factor, message):
    optimizer = scheduled(factor)
    with refused(PluginError, "Broken()", message):
        trained(optimizer)
    assert fails(optimizer.schedule)


def optimizing(change, slots=("velocity",)):
    members = {"name": "broken", "__annotations__": {}, "slots": slots, "change": change}
    return dataclass(frozen=True, eq=False)(type("Broken", (Optimizer,), members))(0.1)


def fails(plugin):
    """Whether a check of the kit fails; it raises nothing else."""
    failed = False
    for _, call in checks_of(plugin):
        try:
            call()
        except AssertionError:
            failed = True
        except SkipTest:
            continue
    return failed


def step(self, params, gradient, slots, rate, update):
    return -rate * gradient


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (optimizing(raises), "change() raised KeyError"),
        (optimizing(lambda self, p, g, s, rate, update: s["velocty"]), "'velocty'; did you mean 'velocity'?"),
        (optimizing(lambda self, p, g: g), "change() raised TypeError"),
        (
            optimizing(lambda self, p, g, s, r, u: None),
            "change() should give floats of shape (26,), not None",
        ),
        (optimizing(lambda self, p, g, s, r, u: 0.1), "change() should give floats of shape (26,), not 0.1"),
        (
            optimizing(lambda self, p, g, s, r, u: list(g)),
            "change() should give floats of shape (26,), not [",
        ),
        (optimizing(lambda self, p, g, s, r, u: g[:1]), "of shape (26,), not ndarray of shape (1,)"),
        (
            optimizing(lambda self, p, g, s, r, u: 1j * g),
            "of shape (26,), not ndarray of shape (26,), dtype com",
        ),
        (
            optimizing(lambda self, p, g, s, r, u: {"U": g}),
            "change() should give floats of shape (26,), not {",
        ),
        (optimizing(lambda self, p, g, s, r, u: np.negative(p, out=p)), "change() raised ValueError"),
        (optimizing(lambda self, p, g, s, r, u: np.negative(g, out=g)), "change() raised ValueError"),
        (
            optimizing(lambda self, p, g, s, r, u: s.update(velocity=g) or -r * g),
            "in the place of slots['vel",
        ),
        (optimizing(lambda self, p, g, s, r, u: s.update(more=g) or -r * g), "in the place of slots['more']"),
        (optimizing(lambda self, p, g, s, r, u: s.clear() or -r * g), "in the place of slots['velocity']"),
        (optimizing(step, "velocity"), "slots is 'velocity'; it should be a tuple of names"),
        (optimizing(step, ["velocity"]), "slots is ['velocity']; it should be a tuple of names"),
        (optimizing(step, (3,)), "slots is (3,); it should be a tuple of names"),
        (optimizing(step, None), "slots is None; it should be a tuple of names"),
        (optimizing(step, ("a/b",)), "slots is ('a/b',); it should be a tuple of names"),
        (optimizing(step, ("a", "a")), "slots has a name twice: ('a', 'a'); rename one"),
    ],
)
def test_a_wrong_optimizer_is_named_by_a_training_and_by_the_kit(optimizer, message):
    with refused(PluginError, "Broken(", message):
        trained(optimizer)
    assert fails(optimizer)


@pytest.mark.parametrize("factor", [np.nan, np.inf, 1e308])
def test_numbers_that_leave_the_range_in_an_optimizer_are_divergence(factor):
    optimizer = optimizing(lambda self, p, gradient, *rest: 10 * (factor * np.sign(gradient)))
    with refused(DivergedError, "update 1: ", "broken"):
        trained(optimizer)
