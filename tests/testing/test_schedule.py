"""The checks of a learning-rate schedule, each proven by a plugin that it alone catches."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
from proofs import WRONG, proven

from gradsim import Schedule
from gradsim.errors import InputError
from gradsim.testing import check_schedule, checks_of
from gradsim.testing.schedule import CHECKS


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


PROOFS = [
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
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, CHECKS)


def test_a_good_schedule_passes_every_check():
    assert [name for name, call in checks_of(Falls()) if call() is None] == [c.name for c in CHECKS]
    check_schedule(Falls())


def test_a_class_is_refused():
    with pytest.raises(InputError, match="call the class"):
        check_schedule(Falls)
