"""The checks of a learning-rate schedule."""

from __future__ import annotations

from gradsim.contracts.optimizer import Schedule, is_factor
from gradsim.testing import common
from gradsim.testing.kit import Bench, Checks, no_global_randomness

CHECKS = Checks(common.CHECKS)

_LENGTHS = (1, 2, 10, 1000)
"""Numbers of updates of a training."""


class ScheduleBench(Bench):
    """A schedule at every update of short and long trainings."""

    family = "schedules"

    def __init__(self, schedule: Schedule) -> None:
        super().__init__(schedule)
        self.schedule = schedule

    @property
    def places(self) -> list[tuple[int, int]]:
        """(update, updates)."""
        return [(update, updates) for updates in _LENGTHS for update in range(1, updates + 1)]

    def factors(self, places: list[tuple[int, int]]) -> list[float]:
        """The factor at each place."""
        return [self.schedule.factor(*place) for place in places]


@CHECKS()
def factors_are_numbers(bench: ScheduleBench) -> None:
    """Every factor is a finite number, 0 or more."""
    for (update, updates), factor in zip(bench.places, bench.factors(bench.places), strict=True):
        bench.expect(
            is_factor(factor),
            f"factor({update}, {updates}) is {factor!r}; it should be a finite number, 0 or more",
        )


@CHECKS("factors_are_numbers")
def some_update_counts(bench: ScheduleBench) -> None:
    """Not all factors of a training are 0."""
    for updates in _LENGTHS:
        factors = bench.factors([(update, updates) for update in range(1, updates + 1)])
        bench.expect(
            any(factors),
            f"all factors of {updates} updates are 0, so nothing is learnt; the first update is 1",
        )


@CHECKS("factors_are_numbers")
def remembers_nothing(bench: ScheduleBench) -> None:
    """A factor depends on the update alone: in any order they are the same."""
    places = bench.places
    with no_global_randomness(bench, "factor()"):
        forwards, backwards = bench.factors(places), bench.factors(places[::-1])[::-1]
    for (update, updates), one, other in zip(places, forwards, backwards, strict=True):
        bench.expect(
            one == other,
            f"factor({update}, {updates}) is {one!r}, and {other!r} when it is asked for again; compute it "
            "from its arguments alone, so that a training can be resumed at any update",
        )
