"""The checks of optimizers and schedules, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from test_testing import WRONG, proven

from gradsim import Optimizer, Schedule
from gradsim.errors import InputError
from gradsim.testing import check_optimizer, check_schedule, checks_of
from gradsim.testing import optimizer as optimizers
from gradsim.testing import schedule as schedules


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


@dataclass(frozen=True, eq=False)
class Falls(Schedule):
    """1/u; good."""

    name = "proof_falls"

    power: float = 1.0

    def factor(self, update, updates):
        return update**-self.power


class CapitalFalls(Falls):
    name = "Falls"


class TakenFalls(Falls):
    name = "cosine"


class Undecorated(Falls):
    more: float = 1.0


@dataclass(frozen=True, eq=False)
class NeedsPower(Falls):
    more: float = field(kw_only=True)


class Negative(Falls):
    def factor(self, update, updates):
        return 1 - WRONG * (update - 1) / max(1, updates - 1)


class Infinite(Falls):
    def factor(self, update, updates):
        return float("inf") if update == updates else 1.0


class Text(Falls):
    def factor(self, update, updates):
        return "1"


class LinearFromZero(Falls):
    """Counts from 0, so that a training of one update does nothing."""

    def factor(self, update, updates):
        return (update - 1) / updates


class Remembers(Falls):
    seen = [1.0]  # noqa: RUF012

    def factor(self, update, updates):
        if update == 1:
            self.seen[0] = 1.0
        self.seen[0] *= 0.999
        return self.seen[0]


class Jitters(Falls):
    def factor(self, update, updates):
        np.random.seed(update)  # noqa: NPY002
        return super().factor(update, updates)


PROOFS = {
    "optimizers": (
        [
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
        ],
        optimizers.CHECKS,
    ),
    "schedules": (
        [
            ("name_and_repr", CapitalFalls()),
            ("name_and_repr", TakenFalls()),
            ("frozen_dataclass", Undecorated()),
            ("constructs_with_defaults", NeedsPower(more=1.0)),
            ("factors_are_numbers", Negative()),
            ("factors_are_numbers", Infinite()),
            ("factors_are_numbers", Text()),
            ("some_update_counts", LinearFromZero()),
            ("remembers_nothing", Remembers()),
            ("remembers_nothing", Jitters()),
        ],
        schedules.CHECKS,
    ),
}


test_a_broken_plugin_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS)


def test_good_plugins_pass_every_check():
    for plugin, check in ((Descent(), check_optimizer), (Falls(), check_schedule)):
        names = [name for name, call in checks_of(plugin) if call() is None]
        assert names == [c.name for c in PROOFS[f"{check.__name__.removeprefix('check_')}s"][1]]
        check(plugin)
    check_optimizer(Descent(schedule=Falls()))


def test_what_is_of_another_family_is_refused():
    with pytest.raises(InputError, match="one Optimizer object is needed"):
        check_optimizer(Falls())
    with pytest.raises(InputError, match="call the class"):
        check_schedule(Falls)
