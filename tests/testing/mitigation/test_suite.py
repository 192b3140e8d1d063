"""What every mitigation has to be, and all checks of good mitigations."""

from __future__ import annotations

from dataclasses import dataclass, field

from examples import Forced, ForcingTask, MakesSlow, Noisy, Scale
from proofs import proven

from gradsim.testing import check_mitigation, common
from gradsim.testing.mitigation import effects, hooks, suite


class CapitalScale(Scale):
    name = "Scale"


@dataclass(frozen=True)
class ByValue(Scale):
    """Compared by value."""


@dataclass(frozen=True, eq=False)
class NeedsFactor(Scale):
    more: float = field(kw_only=True)


PROOFS = [
    ("name_and_repr", CapitalScale()),
    ("frozen_dataclass", ByValue()),
    ("constructs_with_defaults", NeedsFactor(more=1.0)),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, common.CHECKS)


def test_the_suite_is_the_checks_of_all_modules():
    assert [*suite.CHECKS] == [*common.CHECKS, *hooks.CHECKS, *effects.CHECKS]


def test_good_mitigations_pass():
    check_mitigation(Scale())
    check_mitigation(MakesSlow())
    check_mitigation(Scale(), cell=Noisy())
    check_mitigation(MakesSlow(), cell=Forced(), task=ForcingTask())
