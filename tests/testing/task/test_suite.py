"""What every task has to be, and all checks of a good task."""

from __future__ import annotations

from dataclasses import dataclass, field

from examples import Follow
from proofs import proven

from gradsim.testing import check_task, common
from gradsim.testing.task import episodes, losses, suite


class CapitalFollow(Follow):
    name = "Follow"


class UndecoratedFollow(Follow):
    more: int = 1


@dataclass(frozen=True, eq=False)
class NeedsLength(Follow):
    more: int = field(kw_only=True)


PROOFS = [
    ("name_and_repr", CapitalFollow()),
    ("frozen_dataclass", UndecoratedFollow()),
    ("constructs_with_defaults", NeedsLength(more=1)),
]


test_fails_this_check_and_no_other, test_every_check_has_a_proof = proven(PROOFS, common.CHECKS)


def test_the_suite_is_the_checks_of_all_modules():
    assert [*suite.CHECKS] == [*common.CHECKS, *episodes.CHECKS, *losses.CHECKS]


def test_a_good_task_passes():
    check_task(Follow())
