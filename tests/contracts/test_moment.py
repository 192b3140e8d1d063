"""Where in a training a pass lies, and what is remembered from update to update."""

from __future__ import annotations

import numpy as np
import pytest

from gradsim.contracts.moment import Moment
from gradsim.errors import PluginError

MINE, OTHER = object(), object()


def test_a_simulation_measures():
    moment = Moment()
    assert (moment.update, moment.learning, moment.validating) == (0, False, False)


def test_what_is_remembered_is_noted_and_not_seen_in_the_same_pass():
    moment = Moment(3, 10, "learn")
    moment.remember(MINE, mean=2.0, count=[1, 2])
    assert moment.memory(MINE) == {}
    following = Moment(4, 10, "learn", memories=moment.noted)
    assert following.memory(MINE)["mean"] == 2
    np.testing.assert_array_equal(following.memory(MINE)["count"], [1, 2])
    assert following.memory(OTHER) == {}


def test_memories_are_copies():
    kept = np.zeros(2)
    moment = Moment(1, 1, "learn", memories={MINE: {"mean": kept}})
    moment.memory(MINE)["mean"] += 1
    given = np.ones(2)
    moment.remember(MINE, mean=given)
    given += 1
    np.testing.assert_array_equal(kept, 0)
    np.testing.assert_array_equal(moment.noted[MINE]["mean"], 1)


@pytest.mark.parametrize("purpose", ["measure", "validate"])
def test_only_a_pass_that_learns_remembers(purpose):
    moment = Moment(3, 10, purpose)
    moment.remember(MINE, mean=2.0)
    assert not moment.noted


def test_only_numbers_can_be_remembered():
    with pytest.raises(PluginError, match="should remember numbers; name is 'x'"):
        Moment(1, 1, "learn").remember("me", name="x")
