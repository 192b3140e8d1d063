"""The checks of an optimizer, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from proofs import WRONG, proven

from gradsim import Optimizer
from gradsim.errors import InputError
from gradsim.testing import check_optimizer, checks_of
from gradsim.testing.optimizer import CHECKS
from gradsim_schedules import InverseSqrt


@dataclass(frozen=True, eq=False)
class Descent(Optimizer):
    """With momentum; good."""

    name = "proof_descent"
    slots = ("velocity",)

    learning_rate: float = 0.01
    momentum: float = 0.5

    def change(self, params, gradient, slots, rate, update):
        slots["velocity"] *= self.momentum
        slots["velocity"] += gradient
        return -rate * slots["velocity"]


class CapitalDescent(Descent):
    name = "Descent"


class TakenDescent(Descent):
    name = "adam"


@dataclass(frozen=True)
class ByValue(Descent):
    """Compared by value."""


@dataclass(frozen=True, eq=False)
class NeedsMore(Descent):
    more: float = field(kw_only=True)


class OneSlot(Descent):
    slots = "velocity"


class SlotTwice(Descent):
    slots = ("velocity", "velocity")


class WidensFloat32(Descent):
    def change(self, params, gradient, slots, rate, update):
        return np.float64(rate) * super().change(params, gradient, slots, 1.0, update)


class OneNumber(Descent):
    def change(self, params, gradient, slots, rate, update):
        return super().change(params, gradient, slots, rate, update).sum()


class WritesParams(Descent):
    def change(self, params, gradient, slots, rate, update):
        change = super().change(params, gradient, slots, rate, update)
        params *= WRONG
        return change


class WritesGradient(Descent):
    def change(self, params, gradient, slots, rate, update):
        change = super().change(params, gradient, slots, rate, update)
        gradient *= -rate
        return change


class ReturnsSlot(Descent):
    def change(self, params, gradient, slots, rate, update):
        velocity = slots["velocity"]
        velocity *= self.momentum
        velocity -= rate * gradient
        return velocity


class PutsAnotherSlot(Descent):
    def change(self, params, gradient, slots, rate, update):
        slots["velocity"] = self.momentum * slots["velocity"] + gradient
        return -rate * slots["velocity"]


class CountsItself(Descent):
    calls = {}  # noqa: RUF012

    def change(self, params, gradient, slots, rate, update):
        self.calls[params.dtype] = 1 if update == 1 else self.calls[params.dtype] + 1
        return super().change(params, gradient, slots, rate, update) / self.calls[params.dtype] ** 0.001


class GlobalRandomness(Descent):
    def change(self, params, gradient, slots, rate, update):
        np.random.random()  # noqa: NPY002
        return super().change(params, gradient, slots, rate, update)


class CoarseFloat32(Descent):
    def change(self, params, gradient, slots, rate, update):
        right = super().change(params, gradient, slots, rate, update)
        return right if right.dtype == np.float64 else right * np.float32(WRONG)


class IgnoresRate(Descent):
    def change(self, params, gradient, slots, rate, update):
        return super().change(params, gradient, slots, self.learning_rate, update)


class NoEpsilon(Descent):
    slots = ("square",)

    def change(self, params, gradient, slots, rate, update):
        slots["square"] += gradient**2
        return -rate * gradient / np.sqrt(slots["square"])


class Cubes(Descent):
    def change(self, params, gradient, slots, rate, update):
        return super().change(params, gradient**5, slots, rate, update)


class Ascends(Descent):
    def change(self, params, gradient, slots, rate, update):
        return -super().change(params, gradient, slots, rate, update)


PROOFS = [
    ("name_and_repr", CapitalDescent()),
    ("name_and_repr", TakenDescent()),
    ("frozen_dataclass", ByValue()),
    ("constructs_with_defaults", NeedsMore(more=1.0)),
    ("slot_names", OneSlot()),
    ("slot_names", SlotTwice()),
    ("change_shape_and_dtype", WidensFloat32()),
    ("change_shape_and_dtype", OneNumber()),
    ("change_is_pure", WritesParams()),
    ("change_is_pure", WritesGradient()),
    ("change_is_pure", ReturnsSlot()),
    ("change_is_pure", PutsAnotherSlot()),
    ("remembers_only_in_slots", CountsItself()),
    ("remembers_only_in_slots", GlobalRandomness()),
    ("float32_agrees", CoarseFloat32()),
    ("rate_of_zero", IgnoresRate()),
    ("finite_at_extremes", NoEpsilon()),
    ("finite_at_extremes", Cubes()),
    ("descends", Ascends()),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_optimizer_passes_every_check():
    assert [name for name, call in checks_of(Descent()) if call() is None] == [c.name for c in CHECKS]
    check_optimizer(Descent())
    check_optimizer(Descent(schedule=InverseSqrt()))


def test_what_is_of_another_family_is_refused():
    with pytest.raises(InputError, match="one Optimizer object is needed"):
        check_optimizer(InverseSqrt())
