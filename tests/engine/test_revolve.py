"""Recomputing what does not fit into memory, as seldom as can be."""

from __future__ import annotations

import math

import pytest

from gradsim.engine.revolve import Schedule, chosen


def fewest_recomputed(steps, slots):
    """The optimum of Griewank & Walther (2000, eq. 5) for single steps: how many are taken twice or more.

    `slots` counts the states that fit into memory, the first one included.
    """
    passes = next(r for r in range(steps + 1) if math.comb(slots + r, slots) >= steps)
    return passes * steps - math.comb(slots + passes, passes - 1) - (steps - 1) if passes else 0


def brute_force(steps, slots, known):
    """The recursion that the closed form solves: t(l, s) = min over j of j + t(l - j, s - 1) + t(j, s)."""
    if steps == 1:
        return 0
    if slots == 1:
        return steps * (steps - 1) // 2
    if (steps, slots) not in known:
        known[steps, slots] = min(
            j + brute_force(steps - j, slots - 1, known) + brute_force(j, slots, known)
            for j in range(1, steps)
        )
    return known[steps, slots]


def test_the_optimum_is_that_of_a_search():
    """Griewank & Walther (2000), eq. 5; the l - 1 steps of the first sweep are not recomputed."""
    known = {}
    for steps in range(1, 40):
        for slots in range(1, 8):
            assert fewest_recomputed(steps, slots) == brute_force(steps, slots, known) - (steps - 1)


@pytest.mark.parametrize("steps", [1_000, 10_000, 100_000])
@pytest.mark.parametrize("slots", [50, 200, 700, 5_000, 30_000])
@pytest.mark.parametrize("segment", [1, 4, 16])
def test_at_most_a_tenth_more_than_the_optimum(steps, slots, segment):
    """With room for at least 12 segments; a segment at work is among the slots."""
    if slots >= steps or slots < 12 * segment:
        slots, steps = 12 * segment + 40, max(steps, 50 * segment)
    schedule = Schedule(-(-steps // segment), segment, slots - segment)
    assert segment * schedule.recomputed() <= 1.1 * fewest_recomputed(steps, slots)


@pytest.mark.parametrize(
    ("steps", "snapshots", "again"),
    [(10, 3, 15), (20, 3, 45), (56, 5, 140), (100, 10, 222), (1000, 10, 3636), (1000, 50, 1948)],
)
def test_chosen_snapshots_take_again_what_revolve_does(steps, snapshots, again):
    """Griewank & Walther (2000): t(l, s), the first state among the snapshots. Gruslys et al. (2016) count
    every step once more, as it is taken with all that the way back needs.
    """
    found = chosen(snapshots, steps, cost=7)
    assert (found.recomputed(), found.snapshots()) == (again, snapshots)


@pytest.mark.parametrize("snapshots", range(1, 9))
def test_no_other_choice_of_snapshots_takes_fewer_steps_again(snapshots):
    known = {}
    for steps in range(1, 40):
        assert chosen(snapshots, steps, cost=3).recomputed() == brute_force(steps, snapshots, known)


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100, 1_000, 12_345])
@pytest.mark.parametrize("cost", [1, 8, 24])
def test_a_root_of_the_states_is_enough_for_one_more_forward_pass(count, cost):
    """Chen et al. (2016) keep 2 sqrt(T) states; with one less than what is chosen, two passes are too few."""
    found = chosen("sqrt", count, cost)
    assert found.recomputed() < count
    assert found.room <= max(count, math.sqrt(2 * count * cost))
    assert count < cost or found.room < 2 * math.sqrt(count * cost)
    if found.room:
        assert Schedule(count, cost, found.room - 1).recomputed() > found.recomputed()


def test_without_snapshots_all_is_kept():
    found = chosen(0, 50, cost=8)
    assert (found.recomputed(), found.snapshots()) == (0, 0)
