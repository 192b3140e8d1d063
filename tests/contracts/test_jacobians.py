"""Step Jacobians of a range of steps: made when they are read, and cut where losses end."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim import Jacobians

STEPS = range(4, 9)


@pytest.fixture
def blocks(rng):
    return rng.standard_normal((5, 2, 3, 1, 1))


def test_they_are_made_once_and_only_if_they_are_read(blocks):
    made = []
    jacobians = Jacobians(STEPS, lambda: made.append(1) or blocks)
    halved = jacobians.changed(lambda found: found / 2).reaching(np.full(5, 3))
    assert made == []
    np.testing.assert_array_equal(halved.blocks, blocks / 2)
    np.testing.assert_array_equal(jacobians.blocks, blocks)
    assert made == [1]


def test_they_are_the_cells_own_until_they_are_changed(blocks):
    own = Jacobians(STEPS, blocks, own=True)
    assert own.reaching(np.arange(5)).own
    assert not own.changed(lambda found: found).own


def test_the_shortest_reach_counts(blocks):
    first, second = np.array([0, 3, 5, 0, 9]), np.array([1, 2, 6, 0, 0])
    jacobians = Jacobians(STEPS, blocks).reaching(first).reaching(second)
    np.testing.assert_array_equal(jacobians.reach, [1, 3, 6, 0, 9])


def test_what_no_loss_passes_is_shown_as_zero(blocks):
    jacobians = Jacobians(STEPS, blocks, np.array([0, 5, 5, 7, 3]))
    expected = blocks.copy()
    expected[[1, 3]] = 0  # the losses at steps 5 and 7 reach no state before their own
    np.testing.assert_array_equal(jacobians.shown.blocks, expected)
    whole = Jacobians(STEPS, blocks)
    assert whole.shown is whole
    assert whole.region == {"step": slice(3, 8)}
